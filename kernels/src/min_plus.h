// The heart: out[l] = min over u of h[u] + w V(u, l), for several chains at once, with the minimising u where wanted.
//
// general  every pair (u, l). A block of N chains x NV vectors of labels stays in registers while u runs; the rows of V
//          are read once for the N chains.
// windowed V(u, l) = V(|u - l|), growing up to a constant from the distance `window` on: the labels within the window,
//          and the smallest h plus the constant. The same to the last bit, because rounding is monotone: of the sources
//          outside, the first (or last) that attains the smallest h + constant stands for all.
//
// Indices are carried as values of the scalar type (labels are at most 1024). Ascending u with `<` keeps the first of
// equals, with `<=` the last.
#pragma once

#include "arguments.h"

namespace RANP_ISA {

// One chain's scratch. h has `margin` entries of a huge value on either side of its labels, for the window.
template <class T> struct Scratch {
  T *h, *out, *arg, *last;
};

RANP_FN int lowest(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __ffs(bits) - 1;
#else
  return __builtin_ctz(bits);
#endif
}

RANP_FN int highest(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return 31 - __clz(bits);
#else
  return 31 - __builtin_clz(bits);
#endif
}

template <class L> struct MinPlus {
  using T = typename L::Scalar;
  using Vec = typename L::Vec;
  static constexpr int64_t W = L::W;

  int64_t labels, pitch, window;

  // Updates out (and arg) of `count` chains. rows: (L, pitch) of V, or of w V where `scaled`; weight: one per chain.
  RANP_BLOCK void operator()(const Scratch<T>* s, int count, const T* rows, const T* weight, bool scaled, int ties) const {
    if (window && smooth(weight, count)) {
      for (int c = 0; c < count; ++c) {
        if (ties == RANP_NO_INDEX) windowed<RANP_NO_INDEX>(s[c], rows, scaled ? T(1) : weight[c]);
        else if (ties == RANP_FIRST) windowed<RANP_FIRST>(s[c], rows, scaled ? T(1) : weight[c]);
        else windowed<RANP_LAST>(s[c], rows, scaled ? T(1) : weight[c]);
      }
    } else if (ties == RANP_NO_INDEX) {
      scaled ? general<RANP_NO_INDEX, true>(s, count, rows, weight) : general<RANP_NO_INDEX, false>(s, count, rows, weight);
    } else if (ties == RANP_FIRST) {
      scaled ? general<RANP_FIRST, true>(s, count, rows, weight) : general<RANP_FIRST, false>(s, count, rows, weight);
    } else {
      scaled ? general<RANP_LAST, true>(s, count, rows, weight) : general<RANP_LAST, false>(s, count, rows, weight);
    }
  }

 private:
  // A negative weight turns V upside down, and the window no longer holds.
  static RANP_FN bool smooth(const T* weight, int count) {
    bool none_negative = true;
    for (int c = 0; c < count; ++c) none_negative = none_negative && weight[c] >= 0;
    return none_negative;
  }

  template <int Ties, bool Scaled>
  RANP_STEP void general(const Scratch<T>* s, int count, const T* rows, const T* weight) const {
    int c = 0;
    for (; L::chains >= 8 && c + 8 <= count; c += 8) columns<Ties, Scaled, 8>(s + c, rows, weight + c);
    for (; L::chains >= 4 && c + 4 <= count; c += 4) columns<Ties, Scaled, 4>(s + c, rows, weight + c);
    for (; L::chains >= 2 && c + 2 <= count; c += 2) columns<Ties, Scaled, 2>(s + c, rows, weight + c);
    for (; c < count; ++c) columns<Ties, Scaled, 1>(s + c, rows, weight + c);
  }

  template <int Ties, bool Scaled, int N>
  RANP_STEP void columns(const Scratch<T>* s, const T* rows, const T* weight) const {
    constexpr int room = (Ties == RANP_NO_INDEX ? L::accumulators : L::accumulators / 2) / N;
    int64_t at = 0;
    if constexpr (room >= 4)
      for (; at + 3 * W < labels; at += 4 * W) block<Ties, Scaled, N, 4>(s, rows, weight, at);
    if constexpr (room >= 2)
      for (; at + W < labels; at += 2 * W) block<Ties, Scaled, N, 2>(s, rows, weight, at);
    for (; at < labels; at += W) block<Ties, Scaled, N, 1>(s, rows, weight, at);
  }

  template <int Ties, bool Scaled, int N, int NV>
  RANP_BLOCK void block(const Scratch<T>* s, const T* rows, const T* weight, int64_t at) const {
    Vec best[N][NV], source[N][NV];
    for (int c = 0; c < N; ++c)
      for (int v = 0; v < NV; ++v) best[c][v] = L::all(L::huge()), source[c][v] = L::all(0);
    rows += at;
    for (int64_t u = 0; u < labels; ++u, rows += pitch) {
      Vec row[NV];
      for (int v = 0; v < NV; ++v) row[v] = L::load(rows + v * W);
      for (int c = 0; c < N; ++c) {
        const Vec h = L::all(s[c].h[u]);
        for (int v = 0; v < NV; ++v) {
          const Vec candidate = h + (Scaled ? row[v] : L::all(weight[c]) * row[v]);
          take<Ties>(candidate, L::all(T(u)), best[c][v], source[c][v]);
        }
      }
    }
    for (int c = 0; c < N; ++c)
      for (int v = 0; v < NV; ++v) {
        L::store(s[c].out + at + v * W, best[c][v]);
        if (Ties != RANP_NO_INDEX) L::store(s[c].arg + at + v * W, source[c][v]);
      }
  }

  template <int Ties> static RANP_FN void take(Vec candidate, Vec u, Vec& best, Vec& source) {
    if (Ties == RANP_NO_INDEX) {
      best = L::smaller(candidate, best);
    } else {
      const auto better = Ties == RANP_FIRST ? candidate < best : candidate <= best;
      best = L::pick(better, candidate, best);
      source = L::pick(better, u, source);
    }
  }

  template <int Ties> RANP_FN void windowed(const Scratch<T>& s, const T* rows, T weight) const {
    const T cap = weight * rows[window];
    Vec low = L::all(L::huge());
    for (int64_t at = 0; at < labels; at += W) low = L::smaller(low, L::load(s.h + at));
    const T outside = L::least(low) + cap;
    const T place = Ties == RANP_NO_INDEX ? T(0) : attained<Ties>(s.h, outside, cap);
    int64_t at = 0;
    for (; at + 3 * W < labels; at += 4 * W) within<Ties, 4>(s, rows, weight, outside, place, at);
    for (; at < labels; at += W) within<Ties, 1>(s, rows, weight, outside, place, at);
  }

  // The first or last u with h[u] + cap == outside; beyond the labels h is huge.
  template <int Ties> RANP_STEP T attained(const T* h, T outside, T cap) const {
    int64_t found = 0;
    for (int64_t at = 0, open = 1; at < labels && open; at += W) {
      const uint32_t here = L::bits(L::load(h + at) + L::all(cap) == L::all(outside));
      if (!here) continue;
      found = at + (Ties == RANP_FIRST ? lowest(here) : highest(here));
      open = Ties == RANP_LAST;
    }
    return T(found);
  }

  template <int Ties, int NV>
  RANP_STEP void within(const Scratch<T>& s, const T* rows, T weight, T outside, T place, int64_t at) const {
    Vec best[NV], source[NV];
    for (int v = 0; v < NV; ++v) best[v] = L::all(Ties == RANP_NO_INDEX ? outside : L::huge()), source[v] = L::all(0);
    for (int64_t d = 1 - window; d < window; ++d) {
      const Vec step = L::all(weight * rows[d < 0 ? -d : d]);
      for (int v = 0; v < NV; ++v) {
        const Vec u = L::iota() + L::all(T(at + v * W + d));
        take<Ties>(L::load(s.h + at + v * W + d) + step, u, best[v], source[v]);
      }
    }
    for (int v = 0; v < NV; ++v) {
      if (Ties != RANP_NO_INDEX) {
        const Vec other = L::all(outside), u = L::all(place);
        const auto nearer = Ties == RANP_FIRST ? u < source[v] : u > source[v];
        const auto better = (other < best[v]) | ((other == best[v]) & nearer);
        best[v] = L::pick(better, other, best[v]);
        source[v] = L::pick(better, u, source[v]);
        // Where costs are NaN or infinite the entries beside the labels are no larger; the backward reads what p points to.
        const auto inside = (source[v] >= L::all(0)) & (source[v] < L::all(T(labels)));
        source[v] = L::pick(inside, source[v], L::all(0));
        L::store(s.arg + at + v * W, source[v]);
      }
      L::store(s.out + at + v * W, best[v]);
    }
  }
};

}  // namespace RANP_ISA
