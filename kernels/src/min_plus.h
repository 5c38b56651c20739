// The heart: out[l] = min over u of h[u] + w V(u, l), for several chains at once, with the minimising u where wanted.
//
// general  every pair (u, l). A block of N chains x NV vectors of labels stays in registers while u runs; the rows of V
//          are read once for the N chains.
// windowed V(u, l) = V(|u - l|), growing up to a constant from the distance `window` on: the labels within the window,
//          and the smallest h plus the constant. The same to the last bit, because rounding is monotone: of the sources
//          outside, the first (or last) that attains the smallest h + constant stands for all.
//
// Indices are carried as the team carries labels (L::Place): on the CPU as values of the scalar type. Ascending u with `<`
// keeps the first of equals, with `<=` the last.
#pragma once

#include "arguments.h"

namespace RANP_ISA {

// One chain's scratch. h has `margin` entries of a huge value on either side of its labels, for the window.
template <class T> struct Scratch {
  T *h, *out, *arg;
};

template <class L> struct MinPlus {
  using T = typename L::Scalar;
  using Vec = typename L::Vec;
  using Place = typename L::Place;
  using Size = typename L::Size;
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
    constexpr int room = (Ties == RANP_NO_INDEX ? L::block : L::block / 2) / N;
    int64_t at = 0;
    if constexpr (room >= 4)
      for (; at + 3 * W < labels; at += 4 * W) block<Ties, Scaled, N, 4>(s, rows, weight, at);
    if constexpr (room >= 2)
      for (; at + W < labels; at += 2 * W) block<Ties, Scaled, N, 2>(s, rows, weight, at);
    for (; at < L::end(labels); at += W) block<Ties, Scaled, N, 1>(s, rows, weight, at);
  }

  template <int Ties, bool Scaled, int N, int NV>
  RANP_BLOCK void block(const Scratch<T>* s, const T* rows, const T* weight, int64_t at) const {
    Vec best[N][NV];
    Place source[N][NV];
    for (int c = 0; c < N; ++c)
      for (int v = 0; v < NV; ++v) best[c][v] = L::all(L::huge()), source[c][v] = L::place(0);
    rows += at;
    constexpr int U = L::ahead;
    for (Size u = 0; u < Size(labels); u += U, rows += U * stride()) {
      Vec row[U][NV];
      for (int k = 0; k < U; ++k)
        for (int v = 0; v < NV; ++v) row[k][v] = L::load(rows + k * stride() + v * W);
      for (int c = 0; c < N; ++c) {
        T h[U];
        L::spread(s[c].h + u, h);
        for (int k = 0; k < U; ++k)
          for (int v = 0; v < NV; ++v) {
            const Vec candidate = L::all(h[k]) + (Scaled ? row[k][v] : L::all(weight[c]) * row[k][v]);
            take<Ties>(candidate, L::place(u + k), best[c][v], source[c][v]);
          }
      }
    }
    for (int c = 0; c < N; ++c)
      for (int v = 0; v < NV; ++v) {
        L::store(s[c].out + at + v * W, best[c][v]);
        if (Ties == RANP_NO_INDEX) continue;
        if constexpr (U > 1) source[c][v] = labelled(source[c][v]);
        L::store_place(s[c].arg + at + v * W, source[c][v]);
      }
  }

  // Where costs are NaN or infinite the huge entries beside the labels are no larger; the backward reads what p points to.
  RANP_FN Place labelled(Place source) const {
    const auto inside = (source >= L::place(0)) & (source < L::place(Size(labels)));
    return L::pick(inside, source, L::place(0));
  }
  RANP_FN Size stride() const { return L::whole ? Size(W) : Size(pitch); }

  template <int Ties> static RANP_FN void take(Vec candidate, Place u, Vec& best, Place& source) {
    if (Ties == RANP_NO_INDEX) {
      best = L::improved(candidate, best);
    } else {
      const auto better = Ties == RANP_FIRST ? candidate < best : candidate <= best;
      best = L::pick(better, candidate, best);
      source = L::pick(better, u, source);
    }
  }

  template <int Ties> RANP_FN void windowed(const Scratch<T>& s, const T* rows, T weight) const {
    const T cap = weight * rows[window];
    Vec low = L::all(L::huge());
    for (int64_t at = 0; at < L::end(labels); at += W) low = L::smaller(low, L::load(s.h + at));
    const T outside = L::least(low) + cap;
    const Place place = L::place(Ties == RANP_NO_INDEX ? 0 : attained<Ties>(s.h, outside, cap));
    int64_t at = 0;
    if constexpr (L::block >= 4)
      for (; at + 3 * W < labels; at += 4 * W) within<Ties, 4>(s, rows, weight, outside, place, at);
    for (; at < L::end(labels); at += W) within<Ties, 1>(s, rows, weight, outside, place, at);
  }

  // The first or last u with h[u] + cap == outside.
  template <int Ties> RANP_STEP Size attained(const T* h, T outside, T cap) const {
    Size found = 0;
    for (int64_t at = 0; at < L::end(labels); at += W) {
      const auto here = L::load(h + at) + L::all(cap) == L::all(outside);
      const auto place = Ties == RANP_FIRST ? L::first(here, labels - at) : L::last(here, labels - at);
      if (place < 0) continue;
      found = Size(at) + place;
      if (Ties == RANP_FIRST) break;
    }
    return found;
  }

  template <int Ties, int NV>
  RANP_STEP void within(const Scratch<T>& s, const T* rows, T weight, T outside, Place place, int64_t at) const {
    Vec best[NV];
    Place source[NV];
    for (int v = 0; v < NV; ++v) best[v] = L::all(Ties == RANP_NO_INDEX ? outside : L::huge()), source[v] = L::place(0);
    const T* h = s.h + at;
    const Size reach = Size(window), first = Size(at);
    RANP_UNROLL_BY(4)
    for (Size d = 1 - reach; d < reach; ++d) {
      const Vec step = L::all(weight * rows[d < 0 ? -d : d]);
      for (int v = 0; v < NV; ++v)
        take<Ties>(L::load(h + d + v * W) + step, L::places(first + Size(v * W) + d), best[v], source[v]);
    }
    for (int v = 0; v < NV; ++v) {
      if (Ties == RANP_NO_INDEX) {
        best[v] = L::smaller(best[v], L::all(outside));  // which may not be a number
      } else {
        const Vec other = L::all(outside);
        const auto nearer = Ties == RANP_FIRST ? place < source[v] : place > source[v];
        const auto better = (other < best[v]) | ((other == best[v]) & nearer);
        best[v] = L::pick(better, other, best[v]);
        source[v] = L::pick(better, place, source[v]);
        L::store_place(s.arg + at + v * W, labelled(source[v]));
      }
      L::store(s.out + at + v * W, best[v]);
    }
  }
};

}  // namespace RANP_ISA
