// The reverse sweeps (reference_backward.py), for the same teams of lanes. A chain is walked for the odd direction from
// its first node on, for the even one from its last node back; both against the direction of the messages.
//
//             stage 0[s]                stage 1[s]                         stage 2[s]
//   TRWP      gradient of S             extra of the even direction        extra of the odd direction
//   ISGMR     gradient of the messages  gradient of the base so far        -
//   SGM       gradient of the messages  gradient of U from the odd one     -
//
// grad_unary holds the gradient of S (TRWP), or of the messages' sum (ISGMR, SGM); `older` is that of the iteration
// before. `extra` is (R, B, N, L) for TRWP and (R / 2, B, N, L) for ISGMR, null where only one iteration is undone.
#pragma once

#include "passing.h"

namespace RANP_ISA {

// One chain's scratch: t the gradient of a message, h that of its source as the lanes sum it up, last what it came to.
template <class T> struct Reverse {
  T *t, *h, *last;
};

// Which arrays the sweep over an axis reads and writes. TRWP's are the same, once the last axis, which is the first to be
// undone, has brought the gradient there.
template <class T> struct Gradients {
  const T* in;  // gradient of this iteration's S
  T* out;       // that of the iteration before, summed over the axes
  bool in_place;

  RANP_HOST Gradients over(const RanpPass& a, int64_t axis) const {
    return {in_place && axis + 1 < a.directions / 2 ? out : in, out, in_place};
  }
};

template <class L, int Method, class Index> struct Backward {
  using T = typename L::Scalar;
  using Vec = typename L::Vec;
  static constexpr int64_t W = L::W;

  const RanpPass& a;
  Gradients<T> to;
  int64_t axis, iteration;
  const Chain* chains;
  int team;
  const Reverse<T>* scratch;
  T* stage;
  int64_t row;
  T* part;  // (2, L, pitch) this team's share of the gradient of V, or null
  int64_t labels = a.labels;

  RANP_FN void operator()() const {
    if constexpr (L::whole) alone();
    else in_step();
  }

 private:
  // The three values of a node: in registers where they are one vector each, else where the stage has them.
  struct Node {
    Vec value[L::whole ? 3 : 1], before;  // before: the sum over the axes undone so far, which `close` adds to
    T* row;
    int64_t apart;

    RANP_FN Vec get(int k, int64_t at) const {
      if constexpr (L::whole) return value[k];
      else return L::load(row + k * apart + at);
    }
    RANP_FN void set(int k, int64_t at, Vec x) {
      if constexpr (L::whole) value[k] = x;
      else L::store(row + k * apart + at, x);
    }
  };
  // The indices of the message to a node, loaded before they are needed (whole).
  struct Edge {
    typename L::Place p;
    int64_t q;
  };

  RANP_FN Node node(int c, int64_t place) const {
    Node node;
    node.row = held(c, 0, place), node.apart = chains[0].length * row;
    return node;
  }

  RANP_FN void in_step() const {
    for (int c = 0; c < size(); ++c) open(c, 0);
    clear_carried();
    for (int64_t s = 0; s + 1 < chains[0].length; ++s) {
      for (int c = 0; c < size() && s + 1 < chains[c].length; ++c) {
        fetch<1>(c, s + 1 + L::distance);
        open(c, s + 1);
        undo<1>(c, s, node(c, s), Edge{});
      }
      for (int c = 0; c < size() && s + 1 < chains[c].length; ++c) {
        Node target = node(c, s), source = node(c, s + 1);
        settle<1>(c, target, source);
      }
    }
    clear_carried();
    for (int64_t s = 1; s < chains[0].length; ++s) {
      for (int c = 0; c < size() && s < chains[c].length; ++c) {
        const int64_t target = chains[c].length - s;
        fetch<0>(c, target - 1 - L::distance);
        undo<0>(c, target, node(c, target), Edge{});
      }
      for (int c = 0; c < size() && s < chains[c].length; ++c) {
        const int64_t place = chains[c].length - s;
        Node target = node(c, place), source = node(c, place - 1);
        settle<0>(c, target, source);
        close(c, place, target);
      }
    }
    for (int c = 0; c < size(); ++c) close(c, 0, node(c, 0));
    L::sync();
  }

  // One chain whose nodes are a vector each. What a step needs from memory is loaded during the one before: a warp can't
  // do anything else while it waits.
  RANP_FN void alone() const {
    const int64_t end = chains[0].length - 1;
    Node here = opened(0, 0), next = end ? opened(0, 1) : here;
    Edge edge = end ? this->edge<1>(0, 0) : Edge{};
    clear_carried();
    for (int64_t s = 0; s < end; ++s) {
      fetch<1>(0, s + 1 + L::distance);
      const Node coming = s + 1 < end ? opened(0, s + 2) : next;
      const Edge following = s + 1 < end ? this->edge<1>(0, s + 1) : edge;
      undo<1>(0, s, here, edge);
      settle<1>(0, here, next);
      for (int k = 0; k < 3; ++k)
        if (k < 2 || linked()) L::store(held(0, k, s), here.value[k]);
      here = next, next = coming, edge = following;
    }
    clear_carried();
    here.before = before(0, end, 0);
    next = end ? loaded(end - 1) : here;
    edge = end ? this->edge<0>(0, end) : edge;
    for (int64_t target = end; target > 0; --target) {
      fetch<0>(0, target - 1 - L::distance);
      const Node coming = target > 1 ? loaded(target - 2) : next;
      const Edge following = target > 1 ? this->edge<0>(0, target - 1) : edge;
      undo<0>(0, target, here, edge);
      settle<0>(0, here, next);
      close(0, target, here);
      here = next, next = coming, edge = following;
    }
    close(0, 0, here);
    L::sync();
  }

  RANP_FN Node loaded(int64_t place) const {
    Node node;
    for (int k = 0; k < 3; ++k) node.value[k] = k < 2 || linked() ? L::load(held(0, k, place)) : Vec{};
    node.before = before(0, place, 0);
    return node;
  }
  template <int Odd> RANP_FN Edge edge(int c, int64_t place) const {
    const int64_t edge = edge_to(2 * axis + Odd, chains[c].at(place));
    const Index* p = static_cast<const Index*>(a.p) + edge * labels;
    return {L::indices(p, labels), a.normalise ? int64_t(static_cast<const Index*>(a.q)[edge]) : 0};
  }
  RANP_FN int64_t edge_to(int64_t r, int64_t node) const {
    return (iteration * a.directions + r) * a.batch * a.nodes + node;
  }

  RANP_FN int size() const { return L::chains == 1 ? 1 : team; }  // a constant where it can be: of arrays in registers
  RANP_FN bool has_extra() const { return Method != RANP_SGM && iteration + 1 < a.iterations; }
  RANP_FN bool leaves_extra() const { return Method != RANP_SGM && iteration > 0; }
  RANP_FN bool linked() const { return Method == RANP_TRWP && a.iterations > 1; }  // to another iteration
  RANP_FN bool first_axis() const { return axis == a.directions / 2 - 1; }
  RANP_FN T* held(int c, int k, int64_t place) const { return stage + ((3 * c + k) * chains[0].length + place) * row; }
  RANP_FN T* extra(int64_t r, int64_t node) const {
    return static_cast<T*>(a.extra) + (r * a.batch * a.nodes + node) * labels;
  }
  RANP_FN const T* matrix(int64_t r) const {
    return static_cast<const T*>(a.matrices) + (r & 1) * a.pitch * a.pitch;
  }

  RANP_STEP void open(int c, int64_t s) const {
    for (int64_t at = 0; at < labels; at += W) {
      const Values opened = this->opened(c, s, at);
      for (int k = 0; k < 3; ++k)
        if (k < 2 || linked()) L::store(held(c, k, s) + at, opened.of[k]);
    }
  }
  struct Values {
    Vec of[3];
  };
  RANP_FN Values opened(int c, int64_t s, int64_t at) const {
    const int64_t node = chains[c].at(s), rest = labels - at;
    Vec grad = L::load(to.in + node * labels + at, rest), even = {}, odd = {};
    if (Method == RANP_TRWP && has_extra()) {
      even = L::load(extra(2 * axis, node) + at, rest);
      odd = L::load(extra(2 * axis + 1, node) + at, rest);
    }
    if (Method == RANP_ISGMR && has_extra()) grad = grad + L::load(extra(axis, node) + at, rest);
    return {grad, even, odd};
  }
  RANP_FN Node opened(int c, int64_t s) const {
    const Values opened = this->opened(c, s, 0);
    Node node;
    for (int k = 0; k < 3; ++k) node.value[k] = opened.of[k];
    return node;
  }
  RANP_FN Vec before(int c, int64_t s, int64_t at) const {
    if (Method == RANP_TRWP || first_axis()) return Vec{};
    return L::load(to.out + chains[c].at(s) * labels + at, labels - at);
  }

  RANP_STEP void clear_carried() const {
    for (int c = 0; c < size(); ++c)
      for (int64_t at = 0; at < L::end(labels); at += W) L::store(scratch[c].last + at, Vec{});
    L::sync();
  }

  // As in the forward: columns and diagonals jump.
  template <int Odd> RANP_STEP void fetch(int c, int64_t place) const {
    const Chain& chain = chains[c];
    if (place < 0 || place >= chain.length || !L::jumps(chain.stride)) return;
    const int64_t node = chain.at(place), bytes = labels * sizeof(T), edge = edge_to(2 * axis + Odd, node);
    if (Odd) L::prefetch(to.in + node * labels, bytes);
    else L::template prefetch<true>(to.out + node * labels, bytes);
    L::prefetch(static_cast<const Index*>(a.p) + edge * labels, labels * sizeof(Index));
    if (L::chains > 1) return;  // what several chains find in the cache
    L::prefetch(static_cast<const Index*>(a.q) + edge, a.normalise ? 1 : 0);
    for (int k = 0; k < 2 && !Odd; ++k) L::prefetch(held(c, k, place), bytes);
  }

  // Undo one message: scatter the gradient at its target to the labels of its source. What reads the sums comes after
  // the other chains' scatters: a vector load has to wait for all scalar stores into it.
  template <int Odd> RANP_STEP void undo(int c, int64_t place, const Node& target, const Edge& early) const {
    const int64_t r = 2 * axis + Odd, node = chains[c].at(place), edge = edge_to(r, node);
    const Index* p = static_cast<const Index*>(a.p) + edge * labels;
    Vec total = {};
    for (int64_t at = 0; at < L::end(labels); at += W) {
      Vec t = target.get(0, at);
      if (Method != RANP_TRWP) t = t + L::load(scratch[c].last + at);
      else if (!Odd || linked()) t = t + target.get(Odd ? 2 : 1, at);
      L::store(scratch[c].t + at, t);
      L::share(L::whole ? early.p : L::indices(p + at, labels - at), scratch[c].h, at, row);
      total = total + L::zeroed(t, labels - at);
    }
    L::sync();
    L::scatter(p, scratch[c].t, scratch[c].h, labels, row);
    L::sync();
    if (a.normalise) subtract(c, p, L::whole ? early.q : int64_t(static_cast<const Index*>(a.q)[edge]), L::sum(total));
    to_parameters<Odd>(c, p, r, node);
    L::sync();
  }

  // The gradient of the minimum that was taken off; afterwards, so that the scatter needn't wait for the sum.
  RANP_STEP void subtract(int c, const Index* p, int64_t least, T sum) const {
    if (L::leader()) {
      scratch[c].t[least] -= sum;
      scratch[c].h[p[least]] -= sum;
    }
    L::sync();
  }

  template <int Odd> RANP_STEP void settle(int c, Node& target, Node& source) const {
    for (int64_t at = 0; at < L::end(labels); at += W) settle<Odd>(c, target, source, at);
    L::sync();
  }

  template <int Odd> RANP_STEP void settle(int c, Node& target, Node& source, int64_t at) const {
    constexpr int mine = Odd ? 2 : 1, opposite = Odd ? 1 : 2;
    const Vec h = L::collect(scratch[c].h + at, row);
    if (Method != RANP_TRWP) L::store(scratch[c].last + at, h);  // carried on to the next node of the chain
    if (Method == RANP_TRWP) {
      if (linked()) target.set(mine, at, -target.get(0, at));
      source.set(0, at, source.get(0, at) + L::all(T(a.rho)) * h);
      if (Odd || linked()) source.set(opposite, at, source.get(opposite, at) - h);
    }
    if (Method == RANP_ISGMR) source.set(1, at, source.get(1, at) + h);
    if (Method == RANP_SGM) target.set(1, at, target.get(1, at) + L::load(scratch[c].t + at));
  }

  // The weight of this edge has one owner, and so has each entry of this team's share of V.
  template <int Odd> RANP_STEP void to_parameters(int c, const Index* p, int64_t r, int64_t node) const {
    if (!a.grad_weights && !part) return;
    const T* rows = matrix(r);
    T* share = part ? part + Odd * labels * a.pitch : nullptr;
    const int64_t* by = a.weight_strides;
    const int64_t b = chains[c].entry, i = node - b * a.nodes;
    const T weight = static_cast<const T*>(a.weights)[b * by[0] + r * by[1] + i * by[2]];
    const T sum = L::total(share ? each_pair<true>(c, p, rows, share, weight) : each_pair<false>(c, p, rows, share, weight));
    if (a.grad_weights && L::leader())
      static_cast<T*>(a.grad_weights)[(b * a.directions + r) * a.nodes + i] += sum;
  }

  // Returns a lane's part of the sum of t V over the pairs (p[l], l), and adds weight t to its share of V. Four sums, so
  // that none waits for the one before.
  template <bool Shared>
  RANP_STEP T each_pair(int c, const Index* p, const T* rows, T* share, T weight) const {
    const T* t = scratch[c].t;
    const int64_t pitch = a.pitch;
    T sums[4] = {};
    int64_t l = L::lane();
    for (; l + 3 * L::threads() < labels; l += 4 * L::threads())
      for (int k = 0; k < 4; ++k) pair<Shared>(p, t, l + k * L::threads(), pitch, rows, share, weight, sums[k]);
    for (; l < labels; l += L::threads()) pair<Shared>(p, t, l, pitch, rows, share, weight, sums[0]);
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }
  template <bool Shared>
  static RANP_FN void pair(const Index* p, const T* t, int64_t l, int64_t pitch, const T* rows, T* share, T weight, T& sum) {
    const int64_t place = p[l] * pitch + l;
    sum += t[l] * rows[place];
    if (Shared) share[place] += weight * t[l];
  }

  RANP_STEP void close(int c, int64_t s, const Node& closed) const {
    const int64_t node = chains[c].at(s);
    for (int64_t at = 0; at < L::end(labels); at += W) {
      const int64_t rest = labels - at;
      T* total = to.out + node * labels + at;
      if (Method == RANP_TRWP) {
        L::store(total, closed.get(0, at), rest);
        if (!leaves_extra()) continue;
        L::store(extra(2 * axis, node) + at, closed.get(1, at), rest);
        L::store(extra(2 * axis + 1, node) + at, closed.get(2, at), rest);
      } else {
        const Vec mine = closed.get(1, at);
        L::store(total, first_axis() ? mine : (L::whole ? closed.before : before(c, s, at)) + mine, rest);
        if (Method == RANP_ISGMR && leaves_extra()) L::store(extra(axis, node) + at, -mine, rest);
      }
    }
  }
};

}  // namespace RANP_ISA
