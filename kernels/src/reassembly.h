// The reassembly: every fine position is a weighted sum of the K^n neighbours of its source among the coarse positions,
// with weights of its own. What is computed stands in reassembly_reference.py; here are the parts that the CPU
// (reassembly.cpp) and the GPU (reassembly.cu) share, written against a vector of channels (lanes.h, warp.h).
//
// A source and the fine positions that read it are one piece of work: its K^n neighbours are loaded once for up to four
// of them. No array of K^n entries per channel exists anywhere.
#pragma once

#include "arguments.h"

struct RanpReassembly {
  int64_t batch, channels, float64, threads;
  int64_t coarse[3], fine[3], kernel[3];  // fewer than three axes: lengths of 1 in front
  int64_t kernel_strides[3];              // of `kernels` and `grad_kernels`: batch, tap, fine position
  int64_t first;                          // CPU: x, out, grad and grad_x are (B, C, N); else (B, N, C)
  const int64_t* starts[3];  // per axis (coarse + 1,): the first fine position of each source, and their number
  const void *x, *kernels, *grad;
  void *out, *grad_x, *grad_kernels;  // null where not wanted
  void *x_last, *grad_last;           // CPU, where `first`: workspaces (B, N, C) for x and for the gradient
  void* stream;                       // CUDA
};

namespace RANP_ISA {

struct Range {
  int64_t begin, end;
};

// A coarse position.
struct Site {
  int64_t batch, at[3];
};

template <int N> struct Number {
  static constexpr int value = N;
};

// `x` and `grad` point to (B, N, C) and (B, P, C) of one batch entry, `kernels` to (taps, P) of it.
template <class L> struct Reassembly {
  using T = typename L::Scalar;
  using Vec = typename L::Vec;
  static constexpr int64_t W = L::W;
  static constexpr int together = 4;  // fine positions of a source that share what is loaded of its neighbours
  static constexpr int width = L::accumulators / together;

  const RanpReassembly& a;

  RANP_FN int64_t sites() const { return a.coarse[0] * a.coarse[1] * a.coarse[2]; }
  RANP_FN int64_t positions() const { return a.fine[0] * a.fine[1] * a.fine[2]; }
  RANP_FN int64_t flat(const int64_t* at) const { return (at[0] * a.coarse[1] + at[1]) * a.coarse[2] + at[2]; }
  RANP_FN int64_t tap(int64_t u, int64_t v, int64_t w) const { return (u * a.kernel[1] + v) * a.kernel[2] + w; }
  RANP_FN Range fine_of(int axis, int64_t at) const { return {a.starts[axis][at], a.starts[axis][at + 1]}; }

  RANP_FN const T* kernels_of(const Site& site) const {
    return static_cast<const T*>(a.kernels) + site.batch * a.kernel_strides[0];
  }

  // The taps along one axis whose neighbour lies inside.
  RANP_FN Range inside(int axis, int64_t at) const {
    const int64_t begin = a.kernel[axis] / 2 - at, end = begin + a.coarse[axis];
    return {begin > 0 ? begin : 0, end < a.kernel[axis] ? end : a.kernel[axis]};
  }

  // Calls `take` with up to four of a source's fine positions at a time, and with where each lies in a piece of the fine
  // grid: the rows of that source, one after the other, `length` positions long from `begin` on.
  template <class Take> RANP_FN void each_fine(const Site& site, int64_t begin, int64_t length, Take take) const {
    const Range z = fine_of(0, site.at[0]), y = fine_of(1, site.at[1]), x = fine_of(2, site.at[2]);
    int64_t positions[together], places[together];
    int count = 0;
    for (int64_t p = z.begin; p < z.end; ++p)
      for (int64_t q = y.begin; q < y.end; ++q)
        for (int64_t r = x.begin; r < x.end; ++r) {
          positions[count] = (p * a.fine[1] + q) * a.fine[2] + r;
          places[count] = ((p - z.begin) * (y.end - y.begin) + q - y.begin) * length + r - begin;
          if (++count == together) {
            take(Number<together>(), positions, places);
            count = 0;
          }
        }
    if (count & 2) take(Number<2>(), positions, places);
    if (count & 1) take(Number<1>(), positions + (count & 2), places + (count & 2));
  }

  // Sum over taps of kernel(tap, position) x neighbour(tap), for F fine positions of a source and some channels; the
  // result for position f goes to `to + places[f] * pitch`.
  template <int F>
  RANP_FN void gather(const Site& site, const T* x, int64_t channels, const int64_t* positions, T* to,
                      const int64_t* places, int64_t pitch) const {
    over_channels<width>(channels, [&](auto v, int64_t c, int64_t rest) {
      constexpr int V = decltype(v)::value;
      Vec sums[F][V] = {};
      const T* kernels = kernels_of(site);
      const Range z = inside(0, site.at[0]), y = inside(1, site.at[1]), w = inside(2, site.at[2]);
      for (int64_t i = z.begin; i < z.end; ++i)
        for (int64_t j = y.begin; j < y.end; ++j)
          for (int64_t k = w.begin; k < w.end; ++k) {
            const int64_t at[3] = {site.at[0] + i - a.kernel[0] / 2, site.at[1] + j - a.kernel[1] / 2,
                                   site.at[2] + k - a.kernel[2] / 2};
            const T* from = x + flat(at) * a.channels + c;
            const T* weights = kernels + tap(i, j, k) * a.kernel_strides[1];
            Vec values[V];
            for (int n = 0; n < V; ++n) values[n] = load<V>(from + n * W, rest);
            for (int f = 0; f < F; ++f) {
              const Vec weight = L::all(weights[positions[f] * a.kernel_strides[2]]);
              for (int n = 0; n < V; ++n) sums[f][n] = sums[f][n] + weight * values[n];
            }
          }
      for (int f = 0; f < F; ++f)
        for (int n = 0; n < V; ++n) store<V>(to + places[f] * pitch + c + n * W, sums[f][n], rest);
    });
  }

  // Sum over the sources that have this site as a neighbour, and over their fine positions, of kernel x gradient.
  RANP_FN void scatter(const Site& site, const T* grad, int64_t channels, T* to) const {
    over_channels<2 * width>(channels, [&](auto v, int64_t c, int64_t rest) {
      constexpr int V = decltype(v)::value;
      Vec sums[V] = {};
      const T* kernels = kernels_of(site);
      for (int64_t i = 0; i < a.kernel[0]; ++i)
        for (int64_t j = 0; j < a.kernel[1]; ++j)
          for (int64_t k = 0; k < a.kernel[2]; ++k) {
            const int64_t at[3] = {site.at[0] - i + a.kernel[0] / 2, site.at[1] - j + a.kernel[1] / 2,
                                   site.at[2] - k + a.kernel[2] / 2};
            if (!within(at)) continue;
            const T* weights = kernels + tap(i, j, k) * a.kernel_strides[1];
            const Range z = fine_of(0, at[0]), y = fine_of(1, at[1]), x = fine_of(2, at[2]);
            for (int64_t p = z.begin; p < z.end; ++p)
              for (int64_t q = y.begin; q < y.end; ++q)
                for (int64_t r = x.begin; r < x.end; ++r) {
                  const int64_t position = (p * a.fine[1] + q) * a.fine[2] + r;
                  const Vec weight = L::all(weights[position * a.kernel_strides[2]]);
                  const T* from = grad + position * a.channels + c;
                  for (int n = 0; n < V; ++n) sums[n] = sums[n] + weight * load<V>(from + n * W, rest);
                }
          }
      for (int n = 0; n < V; ++n) store<V>(to + c + n * W, sums[n], rest);
    });
  }

  // The gradient of the kernels at some fine positions of a source, for the taps (i, j, ..): x times gradient, summed
  // over the channels.
  template <int F>
  RANP_FN void correlate(const Site& site, int64_t i, int64_t j, const T* x, const T* grad,
                         const int64_t* positions) const {
    T* to = static_cast<T*>(a.grad_kernels) + site.batch * a.kernel_strides[0];
    for (int64_t k = 0; k < a.kernel[2]; ++k) {
      const int64_t at[3] = {site.at[0] + i - a.kernel[0] / 2, site.at[1] + j - a.kernel[1] / 2,
                             site.at[2] + k - a.kernel[2] / 2};
      Vec sums[F] = {};
      if (within(at)) {
        const T* from = x + flat(at) * a.channels;
        int64_t c = 0;
        for (; c + W <= a.channels; c += W) {
          const Vec value = L::load(from + c);
          for (int f = 0; f < F; ++f) sums[f] = sums[f] + value * L::load(grad + positions[f] * a.channels + c);
        }
        if (const int64_t rest = a.channels - c) {
          const Vec value = L::load(from + c, rest);
          for (int f = 0; f < F; ++f) sums[f] = sums[f] + value * L::load(grad + positions[f] * a.channels + c, rest);
        }
      }
      for (int f = 0; f < F; ++f) {
        const T sum = L::sum(sums[f]);
        if (L::leader()) to[tap(i, j, k) * a.kernel_strides[1] + positions[f] * a.kernel_strides[2]] = sum;
      }
    }
  }

 private:
  RANP_FN bool within(const int64_t* at) const {
    return at[0] >= 0 && at[0] < a.coarse[0] && at[1] >= 0 && at[1] < a.coarse[1] && at[2] >= 0 && at[2] < a.coarse[2];
  }

  // Calls `block` with V vectors of channels at a time while there are so many, then with fewer; the last may be partial.
  template <int V, class Block>
  RANP_FN void over_channels(int64_t channels, Block block, int64_t c = 0) const {
    if constexpr (V > 1) {
      for (; c + V * W <= channels; c += V * W) block(Number<V>(), c, channels - c);
      over_channels<V / 2>(channels, block, c);
    } else {
      for (; c < channels; c += W) block(Number<1>(), c, channels - c);
    }
  }

  template <int V> static RANP_FN Vec load(const T* from, int64_t rest) {
    if constexpr (V > 1) return L::load(from);
    else return L::load(from, rest);
  }
  template <int V> static RANP_FN void store(T* to, Vec value, int64_t rest) {
    if constexpr (V > 1) L::store(to, value);
    else L::store(to, value, rest);
  }
};

}  // namespace RANP_ISA
