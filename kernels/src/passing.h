// The forward sweeps, written once for a team of lanes: SIMD on the CPU (isa.cpp), a warp on the GPU (cuda.cu).
//
// A team walks a few chains of one axis in lockstep, up in the even direction and down again in the odd one. Both
// directions of an axis touch only the nodes of the chain, so doing them together is exact for every method, and what
// the way down needs again stays in two chain buffers (`stage`): on the CPU in the cache, on the GPU in shared memory.
//
//             first[s]                   second[s]                          carried in scratch.h
//   TRWP      S after the way up         fresh message of the way up        rho S - the message the other way
//   ISGMR     S - m[r] - m[r^1], old     S of the new messages so far       first[s] + fresh message
//   SGM       U                          sum of the new messages so far     fresh message
//
// Whatever the end of a step reads from afar (Read) a GPU loads before the minima: a warp can't do anything else while
// it waits, and the minima take about as long as memory.
//
// Every output has one owner, so results don't depend on the number of threads.
#pragma once

#include "min_plus.h"

namespace RANP_ISA {

struct Chain {
  int64_t node, length, stride, entry;  // node: flat number of the first one, with those of the entries of the batch before

  RANP_FN int64_t at(int64_t place) const { return node + place * stride; }
};

// The chains of one axis, batch entries one after the other; of each entry the longest first.
struct Axis {
  const int64_t *first, *length;
  int64_t chains, nodes, batch, stride, longest;

  RANP_HOST Axis(const RanpPass& a, int64_t number)
      : first(a.chain_first + a.chain_begin[number]),
        length(a.chain_length + a.chain_begin[number]),
        chains(a.chain_begin[number + 1] - a.chain_begin[number]),
        nodes(a.nodes),
        batch(a.batch),
        stride(a.stride[number]),
        longest(a.chain_longest[number]) {}

  RANP_HOST int64_t count() const { return chains * batch; }
  RANP_HOST Chain chain(int64_t k) const {
    const int64_t entry = k / chains;
    return {first[k % chains] + entry * nodes, length[k % chains], stride, entry};
  }

  // Visits the chains from `from` to `to` in teams whose lengths don't grow, which they do where a batch entry ends.
  template <class Visit> void each_team(int64_t from, int64_t to, Visit visit) const {
    Chain team[8];
    int size = 0;
    for (int64_t k = from; k < to && k < count(); ++k) {
      const Chain next = chain(k);
      if (size && next.length > team[size - 1].length) {
        visit(team, size);
        size = 0;
      }
      team[size++] = next;
    }
    if (size) visit(team, size);
  }
};

template <class T> struct Buffers {
  const T* in;   // S or U before the sweep over this axis, or before the iteration
  const T* sum;  // ISGMR and SGM: what the new messages are added to; null: nothing yet
  T* out;        // S or U after it
};

// The first or last of the labels whose value is `wanted`; it is there.
template <class L>
RANP_FN int64_t place_of(const typename L::Scalar* values, int64_t labels, typename L::Scalar wanted, bool last) {
  int64_t found = 0;
  for (int64_t at = 0; at < L::end(labels); at += L::W) {
    const int64_t rest = labels - at;
    const auto here = L::load(values + at, rest) == L::all(wanted);
    const auto place = last ? L::last(here, rest) : L::first(here, rest);
    if (place < 0) continue;
    found = at + place;
    if (!last) break;
  }
  return found;
}

// The smallest of a node's costs; its first label goes to `label` where that is wanted.
template <class L>
RANP_BLOCK typename L::Scalar label_node(const typename L::Scalar* cost, int64_t labels, int64_t* label) {
  typename L::Vec low = L::all(L::huge());
  for (int64_t at = 0; at < L::end(labels); at += L::W)
    low = L::smaller(low, L::bounded(L::load(cost + at, labels - at), labels - at));
  const typename L::Scalar least = L::least(low);
  if (label) {
    const int64_t place = place_of<L>(cost, labels, least, false);
    if (L::leader()) *label = place;
  }
  return least;
}

template <class L, int Method> struct Forward {
  using T = typename L::Scalar;
  using Vec = typename L::Vec;
  static constexpr int64_t W = L::W;

  const RanpPass& a;
  Buffers<T> to;
  int64_t axis, iteration;
  const Chain* chains;
  int team;  // number of chains
  const Scratch<T>* scratch;
  T* stage;
  int64_t row;  // entries per node in the stage

  RANP_STEP void operator()() const {
    T weights[L::chains];  // of the edges over which the next messages go
    begin_up(weights);
    for (int64_t s = 1; s < chains[0].length; ++s) step<0>(s, weights);
    begin_down(weights);
    for (int64_t s = 1; s < chains[0].length; ++s) step<1>(s, weights);
  }

 private:
  RANP_FN int size() const { return L::chains == 1 ? 1 : team; }  // a constant where it can be: of arrays in registers
  RANP_FN bool has_old() const { return Method != RANP_SGM && iteration > 0; }
  RANP_FN bool stores() const {
    return a.messages && (a.store || (Method != RANP_SGM && iteration + 1 < a.iterations));
  }
  RANP_FN T* first(int c, int64_t place) const { return stage + (c * chains[0].length + place) * row; }
  RANP_FN T* second(int c, int64_t place) const { return first(c, place) + team * chains[0].length * row; }
  RANP_FN T* message(int64_t r, int64_t node) const {
    return static_cast<T*>(a.messages) + (r * a.batch * a.nodes + node) * a.labels;
  }
  // The weight of the edge to the node after this one; where there is none, any.
  template <int Odd> RANP_FN T weight(int c, int64_t place) const {
    const Chain& chain = chains[c];
    const int64_t* by = a.weight_strides;
    const int64_t next = Odd ? (place ? place - 1 : 0) : (place + 1 < chain.length ? place + 1 : place);
    const int64_t node = chain.at(next) - chain.entry * a.nodes;
    return static_cast<const T*>(a.weights)[chain.entry * by[0] + (2 * axis + Odd) * by[1] + node * by[2]];
  }
  RANP_FN const T* matrix(int64_t r) const {
    const int64_t at = a.matrix_stride ? r * a.matrix_stride : (r & 1) * a.pitch * a.pitch;
    return static_cast<const T*>(a.matrices) + at;
  }

  // The first node of each chain receives no message on the way up.
  RANP_STEP void begin_up(T* weights) const {
    for (int c = 0; c < size(); ++c) {
      const int64_t node = chains[c].at(0);
      for (int64_t at = 0; at < L::end(a.labels); at += W) {
        const int64_t rest = a.labels - at;
        const Vec here = opened(node, at, rest);
        L::store(first(c, 0) + at, here);
        L::store(second(c, 0) + at, Method == RANP_TRWP ? Vec{} : summed(node, at, rest));
        leave<0>(c, at, rest, here, Vec{}, opposite<0>(c, 0, at));
        if (stores()) L::store(message(2 * axis, node) + at, Vec{}, rest);
      }
      if (a.ties != RANP_NO_INDEX) record_none(2 * axis, node);
      weights[c] = weight<0>(c, 0);
    }
    L::sync();
  }

  // ... nor does the last one on the way down: what the way up left there is final.
  RANP_STEP void begin_down(T* weights) const {
    for (int c = 0; c < size(); ++c) {
      const int64_t end = chains[c].length - 1, node = chains[c].at(end);
      for (int64_t at = 0; at < L::end(a.labels); at += W) {
        const int64_t rest = a.labels - at;
        const Vec here = L::load(first(c, end) + at), total = Method == RANP_TRWP ? here : L::load(second(c, end) + at);
        finish(c, node, at, total);
        leave<1>(c, at, rest, here, Vec{}, opposite<1>(c, end, at));
        if (stores()) L::store(message(2 * axis + 1, node) + at, Vec{}, rest);
      }
      if (a.ties != RANP_NO_INDEX) record_none(2 * axis + 1, node);
      label(c, node);
      weights[c] = weight<1>(c, end);
    }
    L::sync();
  }

  // What the sweep over this axis starts from. Each iteration of TRWP sums S anew: kept over 50 iterations its rounding
  // would pile up, and move published energies by more than 0.1 %.
  RANP_FN Vec entered(int64_t node, int64_t at, int64_t rest) const {
    if (Method != RANP_TRWP || axis > 0 || !has_old()) return L::load(to.in + node * a.labels + at, rest);
    Vec sum = L::load(static_cast<const T*>(a.unary_copy) + node * a.labels + at, rest);
    for (int64_t r = 0; r < a.directions; ++r) sum = sum + L::load(message(r, node) + at, rest);
    return sum;
  }
  // What `first` holds of a node: S (TRWP), the base (ISGMR), U (SGM).
  RANP_FN Vec opened(int64_t node, int64_t at, int64_t rest) const {
    Vec here = entered(node, at, rest);
    if (Method == RANP_ISGMR && has_old()) {
      here = here - L::load(message(2 * axis, node) + at, rest);
      here = here - L::load(message(2 * axis + 1, node) + at, rest);
    }
    return here;
  }
  RANP_FN Vec summed(int64_t node, int64_t at, int64_t rest) const {
    return to.sum ? L::load(to.sum + node * a.labels + at, rest) : Vec{};
  }

  // What the end of a step reads from afar.
  struct Read {
    Vec base, sum, opposite;
    T weight;
  };
  template <int Odd> RANP_FN Read read(int c, int64_t place, int64_t at) const {
    return {base<Odd>(c, place, at), summed<Odd>(c, place, at), opposite<Odd>(c, place, at), weight<Odd>(c, place)};
  }
  // What a node has without the message that is on its way to it.
  template <int Odd> RANP_FN Vec base(int c, int64_t place, int64_t at) const {
    const int64_t node = chains[c].at(place), rest = a.labels - at;
    Vec here = Odd ? L::load(first(c, place) + at) : opened(node, at, rest);
    if (Method == RANP_TRWP && has_old()) here = here - L::load(message(2 * axis + Odd, node) + at, rest);
    return here;
  }
  template <int Odd> RANP_FN Vec summed(int c, int64_t place, int64_t at) const {
    if (Method == RANP_TRWP) return Vec{};
    return Odd ? L::load(second(c, place) + at) : summed(chains[c].at(place), at, a.labels - at);
  }
  // The message that came to this node against the direction of the sweep.
  template <int Odd> RANP_FN Vec opposite(int c, int64_t place, int64_t at) const {
    if (Method != RANP_TRWP) return Vec{};
    if (Odd) return L::load(second(c, place) + at);
    return has_old() ? L::load(message(2 * axis + 1, chains[c].at(place)) + at, a.labels - at) : Vec{};
  }
  // h of the next message, which leaves this node. here: S (TRWP) or the base.
  template <int Odd> RANP_FN void leave(int c, int64_t at, int64_t rest, Vec here, Vec x, Vec opposite) const {
    Vec h = x;
    if (Method == RANP_ISGMR) h = here + x;
    if (Method == RANP_TRWP) {
      h = L::all(T(a.rho)) * here;
      if (Odd || has_old()) h = h - opposite;
    }
    L::store(scratch[c].h + at, h, rest);
  }

  template <int Odd> RANP_STEP void step(int64_t s, T* weights) const {
    int active = L::chains == 1 ? 1 : 0;
    while (active < size() && s < chains[active].length) ++active;
    for (int c = 0; c < active; ++c) fetch<Odd>(c, s + L::distance);
    Read early;
    if constexpr (L::chains == 1) early = read<Odd>(0, Odd ? chains[0].length - 1 - s : s, 0);
    const MinPlus<L> min_plus{a.labels, a.pitch, a.window};
    min_plus(scratch, active, matrix(2 * axis + Odd), weights, a.scaled, a.ties);
    L::sync();
    for (int c = 0; c < active; ++c) {
      const int64_t place = Odd ? chains[c].length - 1 - s : s;
      sink<Odd>(c, place, early);
      weights[c] = L::chains == 1 ? early.weight : weight<Odd>(c, place);
    }
    L::sync();
  }

  template <int Odd> RANP_STEP void fetch(int c, int64_t s) const {
    const Chain& chain = chains[c];
    if (s >= chain.length || !L::jumps(chain.stride)) return;
    const int64_t node = chain.at(Odd ? chain.length - 1 - s : s), bytes = a.labels * sizeof(T);
    if (!Odd) {
      L::prefetch(to.in + node * a.labels, bytes);
      if (to.sum) L::prefetch(to.sum + node * a.labels, bytes);
    } else if (L::chains == 1) {  // several chains find theirs in the cache
      L::prefetch(first(c, chain.length - 1 - s), bytes);
      L::prefetch(second(c, chain.length - 1 - s), bytes);
    }
    if (!has_old()) return;
    if (!Odd || (Method == RANP_TRWP && L::chains == 1)) L::prefetch(message(2 * axis + 1, node), bytes);
    if (!Odd) L::prefetch(message(2 * axis, node), bytes);
  }

  // Finish the message at the node it reaches: normalise, record, add up.
  template <int Odd> RANP_STEP void sink(int c, int64_t place, const Read& early) const {
    const int64_t r = 2 * axis + Odd, node = chains[c].at(place);
    Vec low = L::all(L::huge());
    for (int64_t at = 0; at < L::end(a.labels); at += W) {
      Vec x = L::load(scratch[c].out + at);
      if (Method == RANP_SGM) {
        const Vec unary = L::chains == 1 && at == 0 ? early.base : base<Odd>(c, place, at);
        if (!Odd) L::store(first(c, place) + at, unary);
        x = unary + x;
        L::store(scratch[c].out + at, x);
      }
      low = L::smaller(low, L::bounded(x, a.labels - at));
    }
    const T least = L::least(low);
    if (a.ties != RANP_NO_INDEX) record(c, r, node, least);
    for (int64_t at = 0; at < L::end(a.labels); at += W) {
      Vec x = L::load(scratch[c].out + at);
      if (a.normalise) x = x - L::all(least);
      settle<Odd>(c, place, node, at, x, L::chains == 1 && at == 0 ? early : read<Odd>(c, place, at));
    }
    if (Odd) label(c, node);
  }

  template <int Odd> RANP_FN void settle(int c, int64_t place, int64_t node, int64_t at, Vec x, const Read& read) const {
    const int64_t rest = a.labels - at;
    Vec here = read.base, total = here + x;
    if (Method == RANP_TRWP) here = total;
    else total = read.sum + x;
    if (Odd) {
      finish(c, node, at, total);
    } else {
      if (Method != RANP_SGM) L::store(first(c, place) + at, here);
      L::store(second(c, place) + at, Method == RANP_TRWP ? x : total);
    }
    leave<Odd>(c, at, rest, here, x, read.opposite);
    if (stores()) L::store(message(2 * axis + Odd, node) + at, x, rest);
  }

  // On the way down over the last axis of the last iteration the costs are final; a copy of them is close by.
  RANP_FN bool last_sweep() const { return axis + 1 == a.directions / 2 && iteration + 1 == a.iterations; }
  RANP_FN void finish(int c, int64_t node, int64_t at, Vec total) const {
    L::store(to.out + node * a.labels + at, total, a.labels - at);
    if (last_sweep()) L::store(scratch[c].out + at, total);
  }
  RANP_STEP void label(int c, int64_t node) const {
    if (last_sweep()) label_node<L>(scratch[c].out, a.labels, static_cast<int64_t*>(a.labels_out) + node);
  }

  RANP_BLOCK void record(int c, int64_t r, int64_t node, T least) const {
    const int64_t edge = edge_to(r, node);
    for (int64_t at = 0; at < L::end(a.labels); at += W)
      L::store_index(a.p, edge * a.labels + at, L::load_place(scratch[c].arg + at), a.labels - at, a.two_bytes);
    if (a.normalise) record_least(edge, place_of<L>(scratch[c].out, a.labels, least, a.ties == RANP_LAST));
  }

  // A node without a message gets zeros: the indices come here uninitialised.
  RANP_BLOCK void record_none(int64_t r, int64_t node) const {
    const int64_t edge = edge_to(r, node);
    for (int64_t at = 0; at < L::end(a.labels); at += W)
      L::store_index(a.p, edge * a.labels + at, L::place(0), a.labels - at, a.two_bytes);
    if (a.normalise) record_least(edge, 0);
  }

  RANP_FN void record_least(int64_t edge, int64_t index) const {
    if (!L::leader()) return;
    if (a.two_bytes) static_cast<uint16_t*>(a.q)[edge] = uint16_t(index);
    else static_cast<uint8_t*>(a.q)[edge] = uint8_t(index);
  }
  RANP_FN int64_t edge_to(int64_t r, int64_t node) const {
    return (iteration * a.directions + r) * a.batch * a.nodes + node;
  }
};

// Which arrays the sweep over an axis reads and writes. TRWP works in place on the cost, once the first axis has brought
// the unary cost there; the others go to and fro so that the last iteration writes the cost.
template <class T, int Method> RANP_HOST Buffers<T> buffers(const RanpPass& a, int64_t iteration, int64_t axis) {
  T* cost = static_cast<T*>(a.cost);
  const T* unary = static_cast<const T*>(a.unary_copy);
  if (Method == RANP_TRWP) return {iteration || axis ? cost : unary, nullptr, cost};
  const bool here = (a.iterations - 1 - iteration) % 2 == 0;
  T* out = here ? cost : static_cast<T*>(a.spare);
  const T* in = iteration ? (here ? static_cast<T*>(a.spare) : cost) : unary;
  return {in, axis ? out : Method == RANP_ISGMR ? unary : nullptr, out};
}

}  // namespace RANP_ISA
