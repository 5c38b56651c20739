// A vector on NVIDIA GPUs: one value per thread of a warp, with the interface that lanes.h gives the CPU.
#pragma once

#include <cuda_runtime.h>

#include "arguments.h"

#define RANP_ISA warp

namespace warp {

template <class S> struct Warp {
  using Scalar = S;
  using Vec = S;
  static constexpr int64_t W = 32;
  static constexpr int chains = 1;
  static constexpr int accumulators = 8;
  static constexpr unsigned everyone = 0xffffffffu;

  static RANP_FN int64_t lane() { return threadIdx.x; }
  static RANP_FN int64_t threads() { return W; }
  static RANP_FN void sync() { __syncwarp(); }
  static RANP_FN bool leader() { return threadIdx.x == 0; }
  static RANP_FN S huge() { return sizeof(S) == 4 ? S(3e38) : S(1e308); }
  static RANP_FN Vec all(S x) { return x; }
  static RANP_FN Vec iota() { return S(threadIdx.x); }
  static RANP_FN Vec pick(bool mask, Vec a, Vec b) { return mask ? a : b; }
  static RANP_FN Vec smaller(Vec a, Vec b) { return a < b ? a : b; }
  static RANP_FN Vec load(const S* p) { return p[lane()]; }
  static RANP_FN Vec load(const S* p, int64_t rest) { return lane() < rest ? p[lane()] : S(0); }
  static RANP_FN void store(S* p, Vec v) { p[lane()] = v; }
  static RANP_FN void store(S* p, Vec v, int64_t rest) {
    if (lane() < rest) p[lane()] = v;
  }
  static RANP_FN Vec bounded(Vec v, int64_t rest) { return lane() < rest ? v : huge(); }
  static RANP_FN Vec zeroed(Vec v, int64_t rest) { return lane() < rest ? v : S(0); }
  static RANP_FN uint32_t bits(bool mask) { return __ballot_sync(everyone, mask); }
  static RANP_FN S least(Vec v) {
    for (int half = 16; half; half /= 2) v = smaller(v, __shfl_xor_sync(everyone, v, half));
    return v;
  }
  static RANP_FN S sum(Vec v) {
    for (int half = 16; half; half /= 2) v += __shfl_xor_sync(everyone, v, half);
    return v;
  }
  static RANP_FN S total(S x) { return sum(x); }
  static RANP_FN void store_index(void* p, int64_t at, Vec v, int64_t rest, bool two_bytes) {
    if (lane() >= rest) return;
    if (two_bytes) static_cast<uint16_t*>(p)[at + lane()] = uint16_t(v);
    else static_cast<uint8_t*>(p)[at + lane()] = uint8_t(v);
  }

  // A thread owns source labels, up to four at a time, and looks for them among the targets: no atomics, one fixed order.
  template <class Index> static RANP_FN void scatter(const Index* p, const S* t, S* h, int64_t labels, int64_t row) {
    int64_t u = lane();
    for (; u + 3 * W < row; u += 4 * W) own<4>(p, t, h, labels, u);
    for (; u + W < row; u += 2 * W) own<2>(p, t, h, labels, u);
    for (; u < row; u += W) own<1>(p, t, h, labels, u);
  }
  static RANP_FN Vec collect(const S* h, int64_t) { return load(h); }

 private:
  template <int N, class Index> static RANP_FN void own(const Index* p, const S* t, S* h, int64_t labels, int64_t u) {
    S sums[N] = {};
    for (int64_t l = 0; l < labels; ++l)
      for (int k = 0; k < N; ++k) sums[k] += p[l] == u + k * W ? t[l] : S(0);
    for (int k = 0; k < N; ++k) h[u + k * W] = sums[k];
  }
};

// A launch that was refused must not be reported again by the next one.
static inline int status() {
  const cudaError_t code = cudaGetLastError();
  return code == cudaSuccess ? RANP_OK : RANP_CUDA + int(code);
}

}  // namespace warp
