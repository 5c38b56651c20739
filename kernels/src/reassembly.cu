// The reassembly on NVIDIA GPUs: one warp takes one source and its fine positions, a channel per thread. All arrays have
// the channels last, so that a warp reads neighbouring entries; the weights are the same for all of its threads.
//
//   nvcc -std=c++17 -O3 --fmad=false -gencode=arch=compute_90,code=sm_90 -Xcompiler=-fPIC -c reassembly.cu
//
// Every output has one owner here as well (sums by shuffles in a fixed order, no atomics): results repeat bit by bit.
// Tests run these kernels on threads of the CPU that take the part of a warp's; on a card, benchmarks/gpu.py checks them.
#include "warp.h"
#include "reassembly.h"

namespace warp {

constexpr int WARPS = 4;               // of a block
constexpr int64_t PLENTY = 1 << 15;    // pieces of work that fill a GPU
constexpr int64_t FEW_CHANNELS = 64;   // that a warp takes where sources alone don't

// What one warp does: the part `part` of the work for a site.
struct Piece {
  Site site;
  int64_t part;
  bool there;

  RANP_FN Piece(const RanpReassembly& a, int64_t parts) {
    const int64_t number = int64_t(blockIdx.x) * blockDim.y + threadIdx.y;
    const int64_t site_number = number / parts, row = site_number / a.coarse[2], plane = row / a.coarse[1];
    part = number - site_number * parts;
    site = {plane / a.coarse[0], {plane % a.coarse[0], row % a.coarse[1], site_number % a.coarse[2]}};
    there = site.batch < a.batch;
  }
};

template <class T> __global__ void __launch_bounds__(32 * WARPS) gather(RanpReassembly a, int64_t share) {
  const Reassembly<Warp<T>> whole{a};
  const Piece piece(a, (a.channels + share - 1) / share);
  if (!piece.there) return;
  const int64_t c = piece.part * share, channels = a.channels - c < share ? a.channels - c : share;
  const T* x = static_cast<const T*>(a.x) + piece.site.batch * whole.sites() * a.channels + c;
  T* out = static_cast<T*>(a.out) + piece.site.batch * whole.positions() * a.channels + c;
  whole.each_fine(piece.site, 0, 0, [&](auto count, const int64_t* fine, const int64_t*) {
    whole.template gather<decltype(count)::value>(piece.site, x, channels, fine, out, fine, a.channels);
  });
}

template <class T> __global__ void __launch_bounds__(32 * WARPS) scatter(RanpReassembly a, int64_t share) {
  const Reassembly<Warp<T>> whole{a};
  const Piece piece(a, (a.channels + share - 1) / share);
  if (!piece.there) return;
  const int64_t c = piece.part * share, channels = a.channels - c < share ? a.channels - c : share;
  const T* grad = static_cast<const T*>(a.grad) + piece.site.batch * whole.positions() * a.channels + c;
  const int64_t site = piece.site.batch * whole.sites() + whole.flat(piece.site.at);
  whole.scatter(piece.site, grad, channels, static_cast<T*>(a.grad_x) + site * a.channels + c);
}

template <class T> __global__ void __launch_bounds__(32 * WARPS) correlate(RanpReassembly a) {
  const Reassembly<Warp<T>> whole{a};
  const Piece piece(a, a.kernel[0] * a.kernel[1]);
  if (!piece.there) return;
  const T* x = static_cast<const T*>(a.x) + piece.site.batch * whole.sites() * a.channels;
  const T* grad = static_cast<const T*>(a.grad) + piece.site.batch * whole.positions() * a.channels;
  whole.each_fine(piece.site, 0, 0, [&](auto count, const int64_t* fine, const int64_t*) {
    whole.template correlate<decltype(count)::value>(piece.site, piece.part / a.kernel[1], piece.part % a.kernel[1], x,
                                                     grad, fine);
  });
}

// A grid has at most 2^31 - 1 blocks, and the launch would take the number of blocks modulo 2^32: 0 where there are more.
static int64_t blocks_for(int64_t pieces) {
  const int64_t blocks = (pieces + WARPS - 1) / WARPS;
  return blocks <= INT32_MAX ? blocks : 0;
}

// The channels that one warp takes: all of them where there are sources enough.
static int64_t share_of(const RanpReassembly& a, int64_t sites) {
  return sites >= PLENTY || a.channels <= FEW_CHANNELS ? a.channels : FEW_CHANNELS;
}

template <class T> int forward(const RanpReassembly& a) {
  const cudaStream_t stream = static_cast<cudaStream_t>(a.stream);
  const int64_t sites = a.batch * a.coarse[0] * a.coarse[1] * a.coarse[2], share = share_of(a, sites);
  const int64_t blocks = blocks_for(sites * ((a.channels + share - 1) / share));
  if (!blocks) return RANP_BAD_ARGUMENT;
  gather<T><<<blocks, dim3(32, WARPS), 0, stream>>>(a, share);
  return status();
}

template <class T> int backward(const RanpReassembly& a) {
  const cudaStream_t stream = static_cast<cudaStream_t>(a.stream);
  const int64_t sites = a.batch * a.coarse[0] * a.coarse[1] * a.coarse[2], share = share_of(a, sites);
  if (a.grad_x) {
    const int64_t blocks = blocks_for(sites * ((a.channels + share - 1) / share));
    if (!blocks) return RANP_BAD_ARGUMENT;
    scatter<T><<<blocks, dim3(32, WARPS), 0, stream>>>(a, share);
    if (const int failed = status()) return failed;
  }
  if (a.grad_kernels) {
    const int64_t blocks = blocks_for(sites * a.kernel[0] * a.kernel[1]);
    if (!blocks) return RANP_BAD_ARGUMENT;
    correlate<T><<<blocks, dim3(32, WARPS), 0, stream>>>(a);
  }
  return status();
}

}  // namespace warp

RANP_EXPORT int ranp_reassembly_size() { return sizeof(RanpReassembly); }

RANP_EXPORT int ranp_reassembly_forward(const RanpReassembly* a) {
  return a->float64 ? warp::forward<double>(*a) : warp::forward<float>(*a);
}

RANP_EXPORT int ranp_reassembly_backward(const RanpReassembly* a) {
  return a->float64 ? warp::backward<double>(*a) : warp::backward<float>(*a);
}
