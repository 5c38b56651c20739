// What crosses the C interface: one plain structure per call, mirrored field by field in native_passing.py and
// native_pooling.py. All arrays are allocated by the caller; shapes and meaning are those of reference.py and
// pooling_reference.py.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define RANP_HOST __host__ __device__ __forceinline__
#define RANP_FN __device__ __forceinline__
#define RANP_STEP __device__ __forceinline__
#define RANP_BLOCK __device__ __forceinline__
#else
#define RANP_HOST inline
#define RANP_FN inline __attribute__((always_inline))
#define RANP_STEP inline                          // let the compiler judge
#define RANP_BLOCK inline __attribute__((noinline))  // shared by several callers
#endif
#if defined(__CUDA_ARCH__)
#define RANP_PRAGMA(text) _Pragma(#text)
#define RANP_UNROLL_BY(n) RANP_PRAGMA(unroll n)  // a warp has its scheduler to itself: loads must be under way together
#else
#define RANP_UNROLL_BY(n)
#endif
#define RANP_EXPORT extern "C" __attribute__((visibility("default")))

#define RANP_ABI 4

enum RanpMethod { RANP_ISGMR = 0, RANP_TRWP = 1, RANP_SGM = 2 };
enum RanpTies { RANP_NO_INDEX = 0, RANP_FIRST = 1, RANP_LAST = 2 };
enum RanpError { RANP_OK = 0, RANP_NO_MEMORY = 1, RANP_BAD_ARGUMENT = 2, RANP_CUDA = 1000 };

struct RanpPass {
  int64_t batch, nodes, labels, directions, iterations;
  int64_t method, ties, normalise, window, store, two_bytes, float64, threads;
  int64_t pitch;             // rows and columns of each of `matrices`, a multiple of 32 and at least `labels`
  int64_t matrix_stride;     // entries between the matrices of two directions; 0: they are picked by r & 1 alone
  int64_t scaled;            // the matrices hold w V: the weight of an edge depends on its direction only
  int64_t weight_strides[3];  // (B, R, N), 0 where broadcast
  int64_t unary_strides[3];   // (B, N, L)
  int64_t gradient_parts;    // copies of the gradient of V (backward); 0: it is not wanted
  double rho;
  const int64_t* chain_first;    // per axis (pair of directions), the first node of each chain, longest chain first
  const int64_t* chain_length;   // nodes of each chain
  const int64_t* chain_begin;    // (R / 2 + 1,) where an axis begins in the two arrays above; always in host memory
  const int64_t* chain_longest;  // (R / 2,) nodes of the longest chain of each axis; always in host memory
  const int64_t* stride;         // (R / 2,) flat distance of a step in the even direction; always in host memory
  const void *unary, *weights;
  const void* matrices;  // (pitch, pitch), rows u, zeros beyond the labels: V or w V, transposed for odd directions
  void *cost, *labels_out, *messages, *p, *q;  // forward: outputs; `messages` may be null where none are stored
  void *unary_copy, *spare;                    // forward: (B, N, L) workspaces, null where not needed
  const void* grad_cost;                       // backward: (B, N, L) contiguous
  void *grad_unary, *grad_weights, *grad_parts;  // (B, N, L), (B, R, N) or null, (parts, 2, L, pitch) or null
  void *extra, *older;                           // backward workspaces, see passing_backward.h
  void* stream;                                  // CUDA
  void* stage;                                   // CUDA: chain buffers in global memory, for when they don't fit into shared memory
};

// Polynomial pooling. Spatial axes are three, the first of them of length 1 where there are less; strides are those of
// (B, C, D, H, W), 0 where a tensor is broadcast.
struct RanpPool {
  int64_t batch, channels, float64, threads;
  int64_t size[3], count[3], kernel[3], stride[3], padding[3], dilation[3];  // count: windows
  int64_t x_strides[5], y_strides[5], alpha_strides[5], shift_strides[5];
  const void *x, *alpha, *shift;  // shift may be null
  void* y;                        // forward
  const void* grad;               // backward: laid out as y
  void *grad_x, *grad_alpha;      // backward: laid out as x and full of zeros; laid out as y, or null
};
