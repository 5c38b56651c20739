// The message passing on NVIDIA GPUs: one warp walks one chain, a label per thread (32 labels at a time), with shuffles
// and no block barrier. The walkers are those of the CPU (passing.h, passing_backward.h); the chain buffers that let
// both directions of an axis share a row lie in shared memory where all chains then still run at once, else in global
// memory, where the cache holds them. A block is one warp, so that chains of uneven length don't wait for each other.
//
//   nvcc -std=c++17 -O3 --fmad=false -gencode=arch=compute_90,code=sm_90 -Xcompiler=-fPIC -shared cuda.cu -o library.so
//
// Every output has one owner here as well (sums by shuffles in a fixed order, no atomics): results repeat bit by bit.
// Not yet run on a GPU by its authors; the walkers are tested on the CPU in warp-wide form (lanes.h, RANP_WARP).
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

template <class T, int Method>
__global__ void __launch_bounds__(32)
    walk_forward(RanpPass a, Axis along, Buffers<T> to, int64_t axis, int64_t iteration, bool in_shared) {
  const int64_t row = a.pitch, margin = (a.window + 31) / 32 * 32, each = 2 * margin + 4 * row;
  T* data = reinterpret_cast<T*>(shared_memory);
  for (int64_t k = threadIdx.x; k < 2 * margin + row; k += 32) data[k] = Warp<T>::huge();
  __syncwarp();
  const Scratch<T> scratch{data + margin, data + 2 * margin + row, data + 2 * margin + 2 * row,
                           data + 2 * margin + 3 * row};
  const Chain chain = along.chain(blockIdx.x);
  T* stage = stage_of<T>(a, each, 2 * along.longest * row, in_shared);
  Forward<Warp<T>, Method>{a, to, axis, iteration, &chain, 1, &scratch, stage, row}();
}

template <class T, int Method, class Index>
__global__ void __launch_bounds__(32)
    walk_backward(RanpPass a, Axis along, Gradients<T> to, int64_t axis, int64_t iteration, bool in_shared) {
  const int64_t row = a.pitch;
  T* data = reinterpret_cast<T*>(shared_memory);
  const Reverse<T> scratch{data, data + row, data + row};  // each scatter replaces the sums, so they serve as the last
  T* stage = stage_of<T>(a, 2 * row, 3 * along.longest * row, in_shared);
  T* part = a.gradient_parts ? static_cast<T*>(a.grad_parts) + int64_t(blockIdx.x) * 2 * a.labels * a.pitch : nullptr;
  for (int64_t k = blockIdx.x; k < along.count(); k += gridDim.x) {
    const Chain chain = along.chain(k);
    Backward<Warp<T>, Method, Index>{a, to, axis, iteration, &chain, 1, &scratch, stage, row, part}();
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
static bool launchable(const RanpPass& a) {
  bool fits = (a.batch * a.nodes + 7) / 8 <= INT32_MAX;
  for (int64_t axis = 0; axis < a.directions / 2; ++axis) fits = fits && Axis(a, axis).count() <= INT32_MAX;
  return fits;
}

template <class T, int Method> int forward_as(const RanpPass& a) {
  const cudaStream_t stream = static_cast<cudaStream_t>(a.stream);
  const int64_t margin = (a.window + 31) / 32 * 32;
  for (int64_t k = 0; k < a.iterations; ++k) {
    for (int64_t axis = 0; axis < a.directions / 2; ++axis) {
      const Axis along(a, axis);
      const size_t scratch = (2 * margin + 4 * a.pitch) * sizeof(T), stage = 2 * along.longest * a.pitch * sizeof(T);
      const auto kernel = walk_forward<T, Method>;
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

template <class T, int Method, class Index> int backward_as(const RanpPass& a) {
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
      const size_t scratch = 2 * a.pitch * sizeof(T), stage = 3 * along.longest * a.pitch * sizeof(T);
      const auto kernel = walk_backward<T, Method, Index>;
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

template <class T> int forward(const RanpPass& a) {
  if (!launchable(a)) return RANP_BAD_ARGUMENT;
  if (a.method == RANP_ISGMR) return forward_as<T, RANP_ISGMR>(a);
  if (a.method == RANP_TRWP) return forward_as<T, RANP_TRWP>(a);
  return forward_as<T, RANP_SGM>(a);
}

template <class T, class Index> int backward(const RanpPass& a) {
  if (!launchable(a)) return RANP_BAD_ARGUMENT;
  if (a.method == RANP_ISGMR) return backward_as<T, RANP_ISGMR, Index>(a);
  if (a.method == RANP_TRWP) return backward_as<T, RANP_TRWP, Index>(a);
  return backward_as<T, RANP_SGM, Index>(a);
}

}  // namespace warp

RANP_EXPORT int ranp_abi_version() { return RANP_ABI; }
RANP_EXPORT int ranp_pass_size() { return sizeof(RanpPass); }
RANP_EXPORT const char* ranp_isa() { return "cuda"; }

RANP_EXPORT const char* ranp_error(int code) {
  return code >= RANP_CUDA ? cudaGetErrorString(cudaError_t(code - RANP_CUDA)) : "an argument is not supported";
}

RANP_EXPORT int ranp_pass_forward(const RanpPass* a) {
  return a->float64 ? warp::forward<double>(*a) : warp::forward<float>(*a);
}

RANP_EXPORT int ranp_pass_backward(const RanpPass* a) {
  if (a->float64) return a->two_bytes ? warp::backward<double, uint16_t>(*a) : warp::backward<double, uint8_t>(*a);
  return a->two_bytes ? warp::backward<float, uint16_t>(*a) : warp::backward<float, uint8_t>(*a);
}
