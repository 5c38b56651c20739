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
    for (int c = 0; c < team; ++c) open(c, 0);
    clear_carried();
    for (int64_t s = 0; s + 1 < chains[0].length; ++s) {
      for (int c = 0; c < team && s + 1 < chains[c].length; ++c) {
        fetch<1>(c, s + 3);
        open(c, s + 1);
        undo<1>(c, s);
      }
      for (int c = 0; c < team && s + 1 < chains[c].length; ++c) settle<1>(c, s, s + 1);
    }
    clear_carried();
    for (int64_t s = 1; s < chains[0].length; ++s) {
      for (int c = 0; c < team && s < chains[c].length; ++c) {
        fetch<0>(c, chains[c].length - s - 3);
        undo<0>(c, chains[c].length - s);
      }
      for (int c = 0; c < team && s < chains[c].length; ++c) {
        const int64_t target = chains[c].length - s;
        settle<0>(c, target, target - 1);
        close(c, target);
      }
    }
    for (int c = 0; c < team; ++c) close(c, 0);
    L::sync();
  }

 private:
  RANP_FN bool has_extra() const { return Method != RANP_SGM && iteration + 1 < a.iterations; }
  RANP_FN bool leaves_extra() const { return Method != RANP_SGM && iteration > 0; }
  RANP_FN bool linked() const { return Method == RANP_TRWP && a.iterations > 1; }  // to another iteration
  RANP_FN bool first_axis() const { return axis == a.directions / 2 - 1; }
  RANP_FN T* held(int c, int k, int64_t place) const { return stage + ((3 * c + k) * chains[0].length + place) * row; }
  RANP_FN T* extra(int64_t r, int64_t node) const {
    return static_cast<T*>(a.extra) + (r * a.batch * a.nodes + node) * labels;
  }
  RANP_FN const T* matrix(int64_t r) const {
    return static_cast<const T*>(a.matrices) + (r & 1) * labels * a.pitch;
  }

  RANP_STEP void open(int c, int64_t s) const {
    const int64_t node = chains[c].at(s);
    for (int64_t at = 0; at < labels; at += W) {
      const int64_t rest = labels - at;
      Vec grad = L::load(to.in + node * labels + at, rest), even = {}, odd = {};
      if (Method == RANP_TRWP && has_extra()) {
        even = L::load(extra(2 * axis, node) + at, rest);
        odd = L::load(extra(2 * axis + 1, node) + at, rest);
      }
      if (Method == RANP_ISGMR && has_extra()) grad = grad + L::load(extra(axis, node) + at, rest);
      L::store(held(c, 0, s) + at, grad);
      L::store(held(c, 1, s) + at, even);
      if (linked()) L::store(held(c, 2, s) + at, odd);
    }
  }

  RANP_STEP void clear_carried() const {
    for (int c = 0; c < team; ++c)
      for (int64_t at = 0; at < labels; at += W) L::store(scratch[c].last + at, Vec{});
    L::sync();
  }

  // As in the forward: columns and diagonals jump.
  template <int Odd> RANP_STEP void fetch(int c, int64_t place) const {
#if !defined(__CUDA_ARCH__)
    const Chain& chain = chains[c];
    if (place < 0 || place >= chain.length || chain.stride == 1 || chain.stride == -1) return;
    const int64_t node = chain.at(place), bytes = labels * sizeof(T);
    const char* gradient = reinterpret_cast<const char*>(to.in + node * labels);
    const char* result = reinterpret_cast<const char*>(to.out + node * labels);
    for (int64_t at = 0; at < bytes; at += 64) Odd ? __builtin_prefetch(gradient + at) : __builtin_prefetch(result + at, 1);
    const int64_t edge = (iteration * a.directions + 2 * axis + Odd) * a.batch * a.nodes + node;
    const char* indices = reinterpret_cast<const char*>(static_cast<const Index*>(a.p) + edge * labels);
    for (int64_t at = 0; at < int64_t(labels * sizeof(Index)); at += 64) __builtin_prefetch(indices + at);
#endif
  }

  // Undo one message: scatter the gradient at its target to the labels of its source. What reads the sums comes after
  // the other chains' scatters: a vector load has to wait for all scalar stores into it.
  template <int Odd> RANP_STEP void undo(int c, int64_t target) const {
    const int64_t r = 2 * axis + Odd, node = chains[c].at(target);
    const int64_t edge = (iteration * a.directions + r) * a.batch * a.nodes + node;
    Vec total = {};
    for (int64_t at = 0; at < labels; at += W) {
      Vec t = L::load(held(c, 0, target) + at);
      if (Method != RANP_TRWP) t = t + L::load(scratch[c].last + at);
      else if (!Odd || linked()) t = t + L::load(held(c, Odd ? 2 : 1, target) + at);
      L::store(scratch[c].t + at, t);
      total = total + L::zeroed(t, labels - at);
    }
    const Index* p = static_cast<const Index*>(a.p) + edge * labels;
    L::sync();
    L::scatter(p, scratch[c].t, scratch[c].h, labels, row);
    L::sync();
    if (a.normalise) subtract(c, p, edge, L::sum(total));
    to_parameters<Odd>(c, p, r, node);
    L::sync();
  }

  // The gradient of the minimum that was taken off; afterwards, so that the scatter needn't wait for the sum.
  RANP_STEP void subtract(int c, const Index* p, int64_t edge, T sum) const {
    if (L::leader()) {
      const int64_t least = static_cast<const Index*>(a.q)[edge];
      scratch[c].t[least] -= sum;
      scratch[c].h[p[least]] -= sum;
    }
    L::sync();
  }

  template <int Odd> RANP_STEP void settle(int c, int64_t target, int64_t source) const {
    for (int64_t at = 0; at < labels; at += W) settle<Odd>(c, target, source, at);
    L::sync();
  }

  template <int Odd> RANP_STEP void settle(int c, int64_t target, int64_t source, int64_t at) const {
    const Vec h = L::collect(scratch[c].h + at, row);
    if (Method != RANP_TRWP) L::store(scratch[c].last + at, h);  // carried on to the next node of the chain
    if (Method == RANP_TRWP) {
      if (linked()) L::store(held(c, Odd ? 2 : 1, target) + at, -L::load(held(c, 0, target) + at));
      L::store(held(c, 0, source) + at, L::load(held(c, 0, source) + at) + L::all(T(a.rho)) * h);
      T* opposite = held(c, Odd ? 1 : 2, source) + at;
      if (Odd || linked()) L::store(opposite, L::load(opposite) - h);
    }
    if (Method == RANP_ISGMR) L::store(held(c, 1, source) + at, L::load(held(c, 1, source) + at) + h);
    if (Method == RANP_SGM) {
      L::store(held(c, 1, target) + at, L::load(held(c, 1, target) + at) + L::load(scratch[c].t + at));
    }
  }

  // The weight of this edge has one owner, and so has each entry of this team's share of V.
  template <int Odd> RANP_STEP void to_parameters(int c, const Index* p, int64_t r, int64_t node) const {
    if (!a.grad_weights && !part) return;
    const T* rows = matrix(r);
    T* share = part ? part + Odd * labels * a.pitch : nullptr;
    const int64_t* by = a.weight_strides;
    const int64_t b = node / a.nodes, i = node % a.nodes;
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

  RANP_STEP void close(int c, int64_t s) const {
    const int64_t node = chains[c].at(s);
    for (int64_t at = 0; at < labels; at += W) {
      const int64_t rest = labels - at;
      T* total = to.out + node * labels + at;
      if (Method == RANP_TRWP) {
        L::store(total, L::load(held(c, 0, s) + at), rest);
        if (!leaves_extra()) continue;
        L::store(extra(2 * axis, node) + at, L::load(held(c, 1, s) + at), rest);
        L::store(extra(2 * axis + 1, node) + at, L::load(held(c, 2, s) + at), rest);
      } else {
        const Vec mine = L::load(held(c, 1, s) + at);
        L::store(total, first_axis() ? mine : L::load(total, rest) + mine, rest);
        if (Method == RANP_ISGMR && leaves_extra()) L::store(extra(axis, node) + at, -mine, rest);
      }
    }
  }
};

}  // namespace RANP_ISA
