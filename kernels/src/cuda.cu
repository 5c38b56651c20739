// The message passing on NVIDIA GPUs: one warp walks one chain, a thread takes every 32nd label, with shuffles and no
// block barrier. The walkers are those of the CPU (passing.h, passing_backward.h); the chain buffers that let both
// directions of an axis share a row lie in shared memory where all chains then still run at once, else in global memory,
// where the cache holds them. A block is one warp, so that chains of uneven length don't wait for each other.
//
//   nvcc -std=c++17 -O3 --fmad=false -gencode=arch=compute_90,code=sm_90 -Xcompiler=-fPIC -shared cuda.cu -o library.so
//
// compiles it as a whole; with RANP_METHOD or RANP_REST it is a part, and the parts are compiled side by side.
//
// Every output has one owner here as well (sums by shuffles in a fixed order, no atomics): results repeat bit by bit.
// Run on one card (docs/kernels.md says which, and what changed since); tested on the CPU on emulated lanes.
#include "warp.h"
#include "passing.h"
#include "passing_backward.h"

namespace warp {

extern __shared__ __align__(16) unsigned char shared_memory[];

// Scratch of one warp comes first in shared memory, then the chain buffers where they fit.
template <class T> RANP_FN T* stage_of(const RanpPass& a, int64_t scratch, int64_t entries, bool in_shared) {
  T* shared = reinterpret_cast<T*>(shared_memory);
  return in_shared ? shared + scratch : static_cast<T*>(a.stage) + int64_t(blockIdx.x) * entries;
}

template <class T, int Method, int N, bool Whole>
__global__ void __launch_bounds__(32, 16)
    walk_forward(RanpPass a, Axis along, Buffers<T> to, int64_t axis, int64_t iteration, bool in_shared) {
  const int64_t row = a.pitch, margin = (a.window + 31) / 32 * 32, each = 2 * margin + 3 * row;
  T* data = reinterpret_cast<T*>(shared_memory);
  for (int64_t k = threadIdx.x; k < 2 * margin + row; k += 32) data[k] = Warp<T, N, Whole>::huge();
  __syncwarp();
  const Scratch<T> scratch{data + margin, data + 2 * margin + row, data + 2 * margin + 2 * row};
  const Chain chain = along.chain(blockIdx.x);
  T* stage = stage_of<T>(a, each, 2 * along.longest * row, in_shared);
  Forward<Warp<T, N, Whole>, Method>{a, to, axis, iteration, &chain, 1, &scratch, stage, row}();
}

template <class T, int Method, class Index, int N, bool Whole>
__global__ void __launch_bounds__(32, 16)
    walk_backward(RanpPass a, Axis along, Gradients<T> to, int64_t axis, int64_t iteration, bool in_shared) {
  const int64_t row = a.pitch;
  T* data = reinterpret_cast<T*>(shared_memory);
  const Reverse<T> scratch{data, data + row, data + row};  // each scatter replaces the sums, so they serve as the last;
                                                           // behind them lie the indices
  T* stage = stage_of<T>(a, 3 * row, 3 * along.longest * row, in_shared);
  T* part = a.gradient_parts ? static_cast<T*>(a.grad_parts) + int64_t(blockIdx.x) * 2 * a.labels * a.pitch : nullptr;
  for (int64_t k = blockIdx.x; k < along.count(); k += gridDim.x) {
    const Chain chain = along.chain(k);
    Backward<Warp<T, N, Whole>, Method, Index>{a, to, axis, iteration, &chain, 1, &scratch, stage, row, part}();
  }
}

// SGM takes the least cost of each node off between iterations.
template <class T> __global__ void lower(RanpPass a, T* cost) {
  const int64_t node = int64_t(blockIdx.x) * blockDim.y + threadIdx.y;
  if (node >= a.batch * a.nodes) return;
  T* here = cost + node * a.labels;
  const T least = label_node<Warp<T>>(here, a.labels, nullptr);
  for (int64_t l = threadIdx.x; l < a.labels; l += 32) here[l] -= least;
}

// ISGMR's unary cost enters the S of every iteration.
template <class T> __global__ void add(int64_t entries, const T* first, const T* second, T* to) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < entries; i += step) to[i] = first[i] + second[i];
}

// Shared memory for a kernel: its scratch, and the chain buffers if all chains then still fit on the device at once.
struct Room {
  size_t bytes;
  bool in_shared;
};

// A kernel is allowed all that a block may have, whatever this launch takes: the attribute belongs to the kernel, and a
// thread that lowered it would make the launch of another one fail. What goes wrong here `status` tells after the launch.
template <class Kernel> Room room_for(Kernel kernel, int64_t blocks, size_t scratch, size_t stage) {
  int device = 0, optin = 0, per_sm = 0, sms = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&optin, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  cudaDeviceGetAttribute(&per_sm, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device);
  cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device);
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, optin);
  const size_t all = scratch + stage;
  const bool in_shared = all <= size_t(optin) && int64_t(per_sm / (all + 1024)) * sms >= blocks;
  return {in_shared ? all : scratch, in_shared};
}

// A grid has at most 2^31 - 1 blocks, and the launch would take the number of blocks modulo 2^32.
static inline bool launchable(const RanpPass& a) {
  bool fits = (a.batch * a.nodes + 7) / 8 <= INT32_MAX;
  for (int64_t axis = 0; axis < a.directions / 2; ++axis) fits = fits && Axis(a, axis).count() <= INT32_MAX;
  return fits;
}

template <class T, int Method, int N, bool Whole> int forward_as(const RanpPass& a) {
  const cudaStream_t stream = static_cast<cudaStream_t>(a.stream);
  const int64_t margin = (a.window + 31) / 32 * 32;
  for (int64_t k = 0; k < a.iterations; ++k) {
    for (int64_t axis = 0; axis < a.directions / 2; ++axis) {
      const Axis along(a, axis);
      const size_t scratch = (2 * margin + 3 * a.pitch) * sizeof(T), stage = 2 * along.longest * a.pitch * sizeof(T);
      const auto kernel = walk_forward<T, Method, N, Whole>;
      const Room room = room_for(kernel, along.count(), scratch, stage);
      kernel<<<along.count(), 32, room.bytes, stream>>>(a, along, buffers<T, Method>(a, k, axis), axis, k,
                                                        room.in_shared);
      if (const int failed = status()) return failed;
    }
    if (Method == RANP_SGM && a.normalise && k + 1 < a.iterations) {
      const int64_t blocks = (a.batch * a.nodes + 7) / 8;
      lower<T><<<blocks, dim3(32, 8), 0, stream>>>(a, buffers<T, Method>(a, k, 0).out);
      if (const int failed = status()) return failed;
    }
  }
  return RANP_OK;
}

template <class T, int Method, class Index, int N, bool Whole> int backward_as(const RanpPass& a) {
  const cudaStream_t stream = static_cast<cudaStream_t>(a.stream);
  const int64_t entries = a.batch * a.nodes * a.labels;
  T *unary = static_cast<T*>(a.grad_unary), *older = static_cast<T*>(a.older);
  const T* given = static_cast<const T*>(a.grad_cost);
  const T* in = given;
  for (int64_t k = a.iterations - 1; k >= 0; --k) {
    const bool direct = Method == RANP_TRWP || (Method == RANP_SGM && k == 0);
    T* out = direct ? unary : older + (k & (a.iterations > 1)) * entries;
    for (int64_t axis = a.directions / 2 - 1; axis >= 0; --axis) {
      const Axis along(a, axis);
      const int64_t blocks = a.gradient_parts && a.gradient_parts < along.count() ? a.gradient_parts : along.count();
      const size_t scratch = 3 * a.pitch * sizeof(T), stage = 3 * along.longest * a.pitch * sizeof(T);
      const auto kernel = walk_backward<T, Method, Index, N, Whole>;
      const Room room = room_for(kernel, blocks, scratch, stage);
      const Gradients<T> to = Gradients<T>{in, out, Method == RANP_TRWP}.over(a, axis);
      kernel<<<blocks, 32, room.bytes, stream>>>(a, along, to, axis, k, room.in_shared);
      if (const int failed = status()) return failed;
    }
    if (Method == RANP_ISGMR) {
      add<T><<<1024, 256, 0, stream>>>(entries, k + 1 == a.iterations ? given : unary, out, unary);
      if (const int failed = status()) return failed;
    }
    in = out;
  }
  return RANP_OK;
}

// How many vectors of 32 labels a thread takes at a time: all of up to four, else four or one. What needn't be fast, or
// isn't used much, has one: compiling takes long enough.
template <int Method> int forward(const RanpPass& a) {
  if (a.float64) return forward_as<double, Method, 1, false>(a);
  switch (a.pitch) {
    case 32: return forward_as<float, Method, 1, true>(a);
    case 64: return forward_as<float, Method, 2, true>(a);
    case 96: return forward_as<float, Method, 3, true>(a);
    case 128: return forward_as<float, Method, 4, true>(a);
  }
  return a.pitch % 128 ? forward_as<float, Method, 1, false>(a) : forward_as<float, Method, 4, false>(a);
}

template <int Method> int backward(const RanpPass& a) {
  if (a.float64 && a.two_bytes) return backward_as<double, Method, uint16_t, 1, false>(a);
  if (a.float64) return backward_as<double, Method, uint8_t, 1, false>(a);
  switch (a.pitch) {
    case 32: return backward_as<float, Method, uint8_t, 1, true>(a);
    case 64: return backward_as<float, Method, uint8_t, 2, true>(a);
    case 96: return backward_as<float, Method, uint8_t, 3, true>(a);
    case 128: return backward_as<float, Method, uint8_t, 4, true>(a);
  }
  if (a.two_bytes) return backward_as<float, Method, uint16_t, 1, false>(a);
  return backward_as<float, Method, uint8_t, 1, false>(a);
}

}  // namespace warp

// Compiled once for each method, side by side, and once for the rest; or all at once (the emulator).
#if defined(RANP_METHOD)
template int warp::forward<RANP_METHOD>(const RanpPass&);
template int warp::backward<RANP_METHOD>(const RanpPass&);
#else
#if defined(RANP_REST)
#define RANP_ELSEWHERE(method)                                 \
  extern template int warp::forward<method>(const RanpPass&); \
  extern template int warp::backward<method>(const RanpPass&);
RANP_ELSEWHERE(RANP_ISGMR)
RANP_ELSEWHERE(RANP_TRWP)
RANP_ELSEWHERE(RANP_SGM)
#endif

RANP_EXPORT int ranp_abi_version() { return RANP_ABI; }
RANP_EXPORT int ranp_pass_size() { return sizeof(RanpPass); }
RANP_EXPORT const char* ranp_isa() { return "cuda"; }

RANP_EXPORT const char* ranp_error(int code) {
  return code >= RANP_CUDA ? cudaGetErrorString(cudaError_t(code - RANP_CUDA)) : "an argument is not supported";
}

RANP_EXPORT int ranp_pass_forward(const RanpPass* a) {
  if (!warp::launchable(*a)) return RANP_BAD_ARGUMENT;
  if (a->method == RANP_ISGMR) return warp::forward<RANP_ISGMR>(*a);
  return a->method == RANP_TRWP ? warp::forward<RANP_TRWP>(*a) : warp::forward<RANP_SGM>(*a);
}

RANP_EXPORT int ranp_pass_backward(const RanpPass* a) {
  if (!warp::launchable(*a)) return RANP_BAD_ARGUMENT;
  if (a->method == RANP_ISGMR) return warp::backward<RANP_ISGMR>(*a);
  return a->method == RANP_TRWP ? warp::backward<RANP_TRWP>(*a) : warp::backward<RANP_SGM>(*a);
}
#endif
