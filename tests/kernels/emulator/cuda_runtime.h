// A CUDA device made of 32 threads, one per lane of a warp, for compiling cuda.cu with g++: blocks run one after the
// other, `__syncwarp` is a barrier, shuffles and votes go through an array between two of them. What a warp does in
// lockstep runs here in any order, so that a missing `__syncwarp` is a data race that ThreadSanitizer sees. A launch that
// asks for what its kernel was not allowed is refused, and a block that wrote beyond its shared memory is an error.
#pragma once

#include <pthread.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __CUDACC__ 1

typedef void* cudaStream_t;
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorIllegalAddress = 700
};
enum cudaDeviceAttr {
  cudaDevAttrMaxSharedMemoryPerBlockOptin,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor,
  cudaDevAttrMultiProcessorCount
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };

struct dim3 {
  unsigned x, y, z;
  dim3(long long x = 1, unsigned y = 1, unsigned z = 1) : x(unsigned(x)), y(y), z(z) {}
};

namespace device {
constexpr int lanes = 32;
extern int optin, per_sm, sms;  // what the attributes say
extern int error;               // the last one, until it is asked for
extern std::map<const void*, int> allowed;  // dynamic shared memory of a kernel, where that was set
extern int lowered;             // how often a kernel was given less than before
extern int launches, refused;   // how many there were, and which one is to fail
extern pthread_barrier_t barrier;
extern unsigned char exchange[lanes * 8];
extern thread_local dim3 thread, block, grid, shape;

inline void wait() { pthread_barrier_wait(&barrier); }
template <class Value> Value from(Value mine, int lane) {
  Value found;
  std::memcpy(exchange + 8 * (thread.x % lanes), &mine, sizeof mine);
  wait();
  std::memcpy(&found, exchange + 8 * lane, sizeof found);
  wait();
  return found;
}
void launch(const void* which, dim3 blocks, dim3 threads, size_t bytes, const std::function<void()>& kernel);
}  // namespace device

#define threadIdx device::thread
#define blockIdx device::block
#define gridDim device::grid
#define blockDim device::shape

inline void __syncwarp() { device::wait(); }
template <class Value> Value __shfl_xor_sync(unsigned, Value mine, int mask) {
  return device::from(mine, int(device::thread.x) ^ mask);
}
inline int __reduce_min_sync(unsigned, int mine) {
  for (int half = device::lanes / 2; half; half /= 2)
    mine = std::min(mine, device::from(mine, int(device::thread.x) ^ half));
  return mine;
}
inline unsigned __ballot_sync(unsigned, bool mine) {
  unsigned votes = 0;
  const int own = mine;
  std::memcpy(device::exchange + 8 * (device::thread.x % device::lanes), &own, sizeof own);
  device::wait();
  for (int lane = 0; lane < device::lanes; ++lane) {
    int vote;
    std::memcpy(&vote, device::exchange + 8 * lane, sizeof vote);
    votes |= unsigned(vote) << lane;
  }
  device::wait();
  return votes;
}
inline int __ffs(unsigned bits) { return __builtin_ffs(int(bits)); }
inline int __clz(unsigned bits) { return bits ? __builtin_clz(bits) : 32; }

inline cudaError_t cudaGetDevice(int* number) { return *number = 0, cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int) {
  *value = which == cudaDevAttrMultiProcessorCount ? device::sms
           : which == cudaDevAttrMaxSharedMemoryPerBlockOptin ? device::optin : device::per_sm;
  return cudaSuccess;
}
template <class Kernel> cudaError_t cudaFuncSetAttribute(Kernel kernel, cudaFuncAttribute, int bytes) {
  if (bytes > device::optin) return cudaError_t(device::error = cudaErrorInvalidValue);
  const auto [at, fresh] = device::allowed.try_emplace(reinterpret_cast<const void*>(kernel), bytes);
  if (!fresh && bytes < at->second) ++device::lowered;
  at->second = bytes;
  return cudaSuccess;
}
inline cudaError_t cudaGetLastError() { return cudaError_t(std::exchange(device::error, cudaSuccess)); }
inline const char* cudaGetErrorString(cudaError_t) { return "an error"; }
