// The forward sweeps, written once for a team of lanes: SIMD on the CPU (isa.cpp), a warp on the GPU (cuda.cu).
//
// A team walks a few chains of one axis in lockstep, up in the even direction and down again in the odd one. Both
// directions of an axis touch only the nodes of the chain, so doing them together is exact for every method, and what
// the way down needs again stays in two chain buffers (`stage`): on the CPU in the cache, on the GPU in shared memory.
//
//             first[s]                   second[s]                          carried in scratch.last
//   TRWP      S after the way up         fresh message of the way up        S of the node just left
//   ISGMR     S - m[r] - m[r^1], old     S of the new messages so far       fresh message of the node just left
//   SGM       U                          sum of the new messages so far     fresh message of the node just left
//
// Every output has one owner, so results don't depend on the number of threads.
#pragma once

#include "min_plus.h"

namespace RANP_ISA {

struct Chain {
  int64_t node, length, stride;  // node: flat number of the first one, batch included

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
  RANP_HOST Chain chain(int64_t k) const { return {first[k % chains] + k / chains * nodes, length[k % chains], stride}; }

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
  for (int64_t at = 0; at < labels; at += L::W) {
    const int64_t rest = labels - at;
    uint32_t here = L::bits(L::load(values + at, rest) == L::all(wanted));
    if (rest < L::W) here &= (uint32_t(1) << rest) - 1;
    if (!here) continue;
    if (!last) return at + lowest(here);
    found = at + highest(here);
  }
  return found;
}

// The smallest of a node's costs; its first label goes to `label` where that is wanted.
template <class L>
RANP_BLOCK typename L::Scalar label_node(const typename L::Scalar* cost, int64_t labels, int64_t* label) {
  typename L::Vec low = L::all(L::huge());
  for (int64_t at = 0; at < labels; at += L::W)
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
    begin_up();
    for (int64_t s = 1; s < chains[0].length; ++s) step<0>(s);
    begin_down();
    for (int64_t s = 1; s < chains[0].length; ++s) step<1>(s);
  }

 private:
  RANP_FN bool has_old() const { return Method != RANP_SGM && iteration > 0; }
  RANP_FN bool stores() const {
    return a.messages && (a.store || (Method != RANP_SGM && iteration + 1 < a.iterations));
  }
  RANP_FN T* first(int c, int64_t place) const { return stage + (c * chains[0].length + place) * row; }
  RANP_FN T* second(int c, int64_t place) const { return first(c, place) + team * chains[0].length * row; }
  RANP_FN T* message(int64_t r, int64_t node) const {
    return static_cast<T*>(a.messages) + (r * a.batch * a.nodes + node) * a.labels;
  }
  RANP_FN T weight(int64_t r, int64_t node) const {
    const int64_t* by = a.weight_strides;
    return static_cast<const T*>(a.weights)[node / a.nodes * by[0] + r * by[1] + node % a.nodes * by[2]];
  }
  RANP_FN const T* matrix(int64_t r) const {
    const int64_t at = a.matrix_stride ? r * a.matrix_stride : (r & 1) * a.labels * a.pitch;
    return static_cast<const T*>(a.matrices) + at;
  }

  // The first node of each chain receives no message on the way up.
  RANP_STEP void begin_up() const {
    for (int c = 0; c < team; ++c) {
      const int64_t node = chains[c].at(0);
      for (int64_t at = 0; at < a.labels; at += W) {
        const int64_t rest = a.labels - at;
        const Vec here = opened(node, at, rest);
        L::store(first(c, 0) + at, here);
        L::store(second(c, 0) + at, Method == RANP_TRWP ? Vec{} : summed(node, at, rest));
        L::store(scratch[c].last + at, Method == RANP_TRWP ? here : Vec{});
        if (stores()) L::store(message(2 * axis, node) + at, Vec{}, rest);
      }
      if (a.ties != RANP_NO_INDEX) record_none(2 * axis, node);
    }
    L::sync();
  }

  // ... nor does the last one on the way down: what the way up left there is final.
  RANP_STEP void begin_down() const {
    for (int c = 0; c < team; ++c) {
      const int64_t end = chains[c].length - 1, node = chains[c].at(end);
      for (int64_t at = 0; at < a.labels; at += W) {
        const int64_t rest = a.labels - at;
        const Vec total = L::load((Method == RANP_TRWP ? first(c, end) : second(c, end)) + at);
        L::store(to.out + node * a.labels + at, total, rest);
        L::store(scratch[c].last + at, Method == RANP_TRWP ? total : Vec{});
        if (stores()) L::store(message(2 * axis + 1, node) + at, Vec{}, rest);
      }
      if (a.ties != RANP_NO_INDEX) record_none(2 * axis + 1, node);
      label(node);
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

  template <int Odd> RANP_STEP void step(int64_t s) const {
    const int64_t r = 2 * axis + Odd;
    T weights[L::chains];
    int active = 0;
    for (; active < team && s < chains[active].length; ++active) {
      const Chain& chain = chains[active];
      const int64_t place = Odd ? chain.length - 1 - s : s;
      weights[active] = weight(r, chain.at(place));
      source<Odd>(active, Odd ? place + 1 : place - 1);
      if (!Odd) fetch(chain, s + 2);
    }
    L::sync();
    const MinPlus<L> min_plus{a.labels, a.pitch, a.window};
    min_plus(scratch, active, matrix(r), weights, a.scaled, a.ties);
    L::sync();
    for (int c = 0; c < active; ++c) sink<Odd>(c, r, Odd ? chains[c].length - 1 - s : s);
    L::sync();
  }

  // Columns and diagonals jump from row to row; no hardware prefetcher follows them.
  RANP_STEP void fetch(const Chain& chain, int64_t place) const {
#if !defined(__CUDA_ARCH__)
    if (place >= chain.length || chain.stride == 1 || chain.stride == -1) return;
    const int64_t node = chain.at(place), bytes = a.labels * sizeof(T);
    for (int64_t at = 0; at < bytes; at += 64) {
      __builtin_prefetch(reinterpret_cast<const char*>(to.in + node * a.labels) + at);
      if (to.sum) __builtin_prefetch(reinterpret_cast<const char*>(to.sum + node * a.labels) + at);
      if (!has_old()) continue;
      __builtin_prefetch(reinterpret_cast<const char*>(message(2 * axis, node)) + at);
      __builtin_prefetch(reinterpret_cast<const char*>(message(2 * axis + 1, node)) + at);
    }
#endif
  }

  // h of the node the message leaves.
  template <int Odd> RANP_STEP void source(int c, int64_t place) const {
    const T* opposite = Odd ? nullptr : (has_old() ? message(2 * axis + 1, chains[c].at(place)) : nullptr);
    for (int64_t at = 0; at < a.labels; at += W) {
      const int64_t rest = a.labels - at;
      const Vec last = L::load(scratch[c].last + at);
      Vec h = last;
      if (Method == RANP_ISGMR) h = L::load(first(c, place) + at) + last;
      if (Method == RANP_TRWP) {
        h = L::all(T(a.rho)) * last;
        if (Odd) h = h - L::load(second(c, place) + at);
        else if (opposite) h = h - L::load(opposite + at, rest);
      }
      L::store(scratch[c].h + at, h, rest);
    }
  }

  // Finish the message at the node it reaches: normalise, record, add up.
  template <int Odd> RANP_STEP void sink(int c, int64_t r, int64_t place) const {
    const int64_t node = chains[c].at(place);
    Vec low = L::all(L::huge());
    for (int64_t at = 0; at < a.labels; at += W) {
      const int64_t rest = a.labels - at;
      Vec x = L::load(scratch[c].out + at);
      if (Method == RANP_SGM) {
        const Vec unary = Odd ? L::load(first(c, place) + at) : opened(node, at, rest);
        if (!Odd) L::store(first(c, place) + at, unary);
        x = unary + x;
        L::store(scratch[c].out + at, x);
      }
      low = L::smaller(low, L::bounded(x, rest));
    }
    const T least = L::least(low);
    if (a.ties != RANP_NO_INDEX) record(c, r, node, least);
    for (int64_t at = 0; at < a.labels; at += W) {
      Vec x = L::load(scratch[c].out + at);
      if (a.normalise) x = x - L::all(least);
      settle<Odd>(c, r, place, node, at, x);
    }
    if (Odd) label(node);
  }

  // On the way down over the last axis of the last iteration the costs are final, and still close by.
  RANP_STEP void label(int64_t node) const {
    if (axis + 1 < a.directions / 2 || iteration + 1 < a.iterations) return;
    label_node<L>(to.out + node * a.labels, a.labels, static_cast<int64_t*>(a.labels_out) + node);
  }

  template <int Odd> RANP_STEP void settle(int c, int64_t r, int64_t place, int64_t node, int64_t at, Vec x) const {
    const int64_t rest = a.labels - at;
    T* out = to.out + node * a.labels + at;
    if (Method == RANP_TRWP) {
      Vec total = Odd ? L::load(first(c, place) + at) : entered(node, at, rest);
      if (has_old()) total = total - L::load(message(r, node) + at, rest);
      total = total + x;
      L::store(scratch[c].last + at, total);
      if (Odd) {
        L::store(out, total, rest);
      } else {
        L::store(first(c, place) + at, total);
        L::store(second(c, place) + at, x);
      }
    } else {
      L::store(scratch[c].last + at, x);
      if (Odd) {
        L::store(out, L::load(second(c, place) + at) + x, rest);
      } else {
        if (Method == RANP_ISGMR) L::store(first(c, place) + at, opened(node, at, rest));
        L::store(second(c, place) + at, summed(node, at, rest) + x);
      }
    }
    if (stores()) L::store(message(r, node) + at, x, rest);
  }

  RANP_BLOCK void record(int c, int64_t r, int64_t node, T least) const {
    const int64_t edge = edge_to(r, node);
    for (int64_t at = 0; at < a.labels; at += W)
      L::store_index(a.p, edge * a.labels + at, L::load(scratch[c].arg + at), a.labels - at, a.two_bytes);
    if (a.normalise) record_least(edge, place_of<L>(scratch[c].out, a.labels, least, a.ties == RANP_LAST));
  }

  // A node without a message gets zeros: the indices come here uninitialised.
  RANP_BLOCK void record_none(int64_t r, int64_t node) const {
    const int64_t edge = edge_to(r, node);
    for (int64_t at = 0; at < a.labels; at += W)
      L::store_index(a.p, edge * a.labels + at, Vec{}, a.labels - at, a.two_bytes);
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
