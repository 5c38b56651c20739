// A vector on NVIDIA GPUs, with the interface that lanes.h gives the CPU: N values per thread of a warp, 32 labels apart.
// Up to 128 labels are one vector (Whole): the walkers' loops over the vectors of a node vanish, and what a thread loads of
// a node is under way together. A warp has its scheduler to itself; nothing else hides what it waits for.
#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstring>

#include "arguments.h"

#define RANP_ISA warp

namespace warp {

template <class S, int N> struct Few {
  S v[N];

  template <class Entry> static RANP_FN Few of(Entry entry) {
    Few made;
    for (int i = 0; i < N; ++i) made.v[i] = entry(i);
    return made;
  }
  using Mask = Few<bool, N>;
  friend RANP_FN Few operator+(Few a, Few b) { return of([&](int i) { return a.v[i] + b.v[i]; }); }
  friend RANP_FN Few operator-(Few a, Few b) { return of([&](int i) { return a.v[i] - b.v[i]; }); }
  friend RANP_FN Few operator*(Few a, Few b) { return of([&](int i) { return a.v[i] * b.v[i]; }); }
  friend RANP_FN Few operator-(Few a) { return of([&](int i) { return -a.v[i]; }); }
  friend RANP_FN Mask operator<(Few a, Few b) { return Mask::of([&](int i) { return a.v[i] < b.v[i]; }); }
  friend RANP_FN Mask operator<=(Few a, Few b) { return Mask::of([&](int i) { return a.v[i] <= b.v[i]; }); }
  friend RANP_FN Mask operator==(Few a, Few b) { return Mask::of([&](int i) { return a.v[i] == b.v[i]; }); }
  friend RANP_FN Mask operator>(Few a, Few b) { return b < a; }
  friend RANP_FN Mask operator>=(Few a, Few b) { return b <= a; }
  friend RANP_FN Few operator|(Few a, Few b) { return of([&](int i) { return a.v[i] | b.v[i]; }); }
  friend RANP_FN Few operator&(Few a, Few b) { return of([&](int i) { return a.v[i] & b.v[i]; }); }
};

// U consecutive entries, read 16 bytes at a time: the same ones by every lane, so that shared memory broadcasts them.
template <int U, class S> RANP_FN void spread(const S* from, S (&to)[U]) {
  constexpr int each = 16 / sizeof(S);
  struct alignas(16) Chunk {
    S v[each];
  };
  static_assert(U % each == 0, "whole chunks");
  for (int k = 0; k < U; k += each) {
    const Chunk chunk = *reinterpret_cast<const Chunk*>(from + k);
    for (int i = 0; i < each; ++i) to[k + i] = chunk.v[i];
  }
}

template <class S, int N = 1, bool Whole = false> struct Warp {
  using Scalar = S;
  using Vec = Few<S, N>;
  using Mask = Few<bool, N>;
  using Place = Few<int, N>;  // a label per entry
  using Size = int;           // counts labels
  static constexpr int64_t W = 32 * N;
  static constexpr bool whole = Whole;  // one vector is all labels of a node, and a row of V
  static constexpr int chains = 1;
  static constexpr int accumulators = 8;
  static constexpr int block = 1;  // vectors of labels that the minima are taken of at a time: N are as many as fit
  static constexpr int ahead = N > 2 ? 8 : 16;  // sources whose rows of V are loaded before the first is used
  static constexpr unsigned everyone = 0xffffffffu;

  static RANP_FN int64_t end(int64_t labels) { return Whole ? 1 : labels; }
  static RANP_FN int lane() { return int(threadIdx.x); }
  static RANP_FN int threads() { return 32; }
  static RANP_FN void sync() { __syncwarp(); }
  static RANP_FN bool leader() { return threadIdx.x == 0; }
  static RANP_FN S huge() { return sizeof(S) == 4 ? S(3e38) : S(1e308); }
  static RANP_FN Vec all(S x) {
    return Vec::of([&](int) { return x; });
  }
  static RANP_FN Place place(int label) {
    return Place::of([&](int) { return label; });
  }
  // The labels of the entries of the vector that begins with this one.
  static RANP_FN Place places(int first) {
    return Place::of([&](int i) { return first + 32 * i + lane(); });
  }
  template <class Any> static RANP_FN Any pick(Mask mask, Any a, Any b) {
    return Any::of([&](int i) { return mask.v[i] ? a.v[i] : b.v[i]; });
  }
  static RANP_FN Vec smaller(Vec a, Vec b) {
    return Vec::of([&](int i) { return smaller(a.v[i], b.v[i]); });
  }
  // The same in one instruction, where `best` is a number: what is not a number never becomes it.
  static RANP_FN Vec improved(Vec candidate, Vec best) {
    return Vec::of([&](int i) { return improved(candidate.v[i], best.v[i]); });
  }
  static RANP_FN Vec load(const S* p) {
    p += threadIdx.x;
    return Vec::of([&](int i) { return p[32 * i]; });
  }
  static RANP_FN Vec load(const S* p, int64_t rest) {
    const int left = int(rest) - lane();
    p += threadIdx.x;
    return Vec::of([&](int i) { return 32 * i < left ? p[32 * i] : S(0); });
  }
  static RANP_FN void store(S* p, Vec v) {
    p += threadIdx.x;
    for (int i = 0; i < N; ++i) p[32 * i] = v.v[i];
  }
  static RANP_FN void store(S* p, Vec v, int64_t rest) {
    const int left = int(rest) - lane();
    p += threadIdx.x;
    for (int i = 0; i < N; ++i)
      if (32 * i < left) p[32 * i] = v.v[i];
  }
  static RANP_FN Vec bounded(Vec v, int64_t rest) { return pick(inside(rest), v, all(huge())); }
  static RANP_FN Vec zeroed(Vec v, int64_t rest) { return pick(inside(rest), v, Vec{}); }

  // The first or the last entry that holds, of the first `rest`; -1: none does.
  static RANP_FN int first(Mask mask, int64_t rest) {
    int place = -1;
    for (int i = N - 1; i >= 0; --i)
      if (const unsigned votes = ballot(mask, i, rest)) place = 32 * i + __ffs(votes) - 1;
    return place;
  }
  static RANP_FN int last(Mask mask, int64_t rest) {
    int place = -1;
    for (int i = 0; i < N; ++i)
      if (const unsigned votes = ballot(mask, i, rest)) place = 32 * i + 31 - __clz(votes);
    return place;
  }
  static RANP_FN S least(Vec v) {
    S low = v.v[0];
    for (int i = 1; i < N; ++i) low = smaller(low, v.v[i]);
    return least_of_lanes(low);
  }
  static RANP_FN S sum(Vec v) {
    S sum = v.v[0];
    for (int i = 1; i < N; ++i) sum += v.v[i];
    return total(sum);
  }
  static RANP_FN S total(S x) {
    for (int half = 16; half; half /= 2) x += __shfl_xor_sync(everyone, x, half);
    return x;
  }

  // Labels lie in the entries of a row as the integers that they are.
  static RANP_FN Place load_place(const S* row) {
    const int* p = reinterpret_cast<const int*>(row) + threadIdx.x;
    return Place::of([&](int i) { return p[32 * i]; });
  }
  static RANP_FN void store_place(S* row, Place places) {
    int* p = reinterpret_cast<int*>(row) + threadIdx.x;
    for (int i = 0; i < N; ++i) p[32 * i] = places.v[i];
  }
  static RANP_FN void store_index(void* p, int64_t at, Place places, int64_t rest, bool two_bytes) {
    const int left = int(rest) - lane();
    at += threadIdx.x;
    for (int i = 0; i < N; ++i) {
      if (32 * i >= left) continue;
      if (two_bytes) static_cast<uint16_t*>(p)[at + 32 * i] = uint16_t(places.v[i]);
      else static_cast<uint8_t*>(p)[at + 32 * i] = uint8_t(places.v[i]);
    }
  }

  template <int U> static RANP_FN void spread(const S* from, S (&to)[U]) { warp::spread(from, to); }

  // No hardware follows a chain: what comes in a few steps is brought to the L2 cache, a line per lane.
  static constexpr int64_t distance = 6;
  static RANP_FN bool jumps(int64_t) { return true; }
  template <bool Write = false> static RANP_FN void prefetch(const void* p, int64_t bytes) {
#if defined(__CUDA_ARCH__)
    const int at = lane() * 128;
    if (at < int(bytes)) asm volatile("prefetch.L2 [%0];" ::"l"(static_cast<const char*>(p) + at));
#endif
  }

  // A thread owns source labels and looks for them among the targets: no atomics, one fixed order. The indices lie behind
  // h, where all lanes read them; beyond the labels they are none's.
  template <class Index> static RANP_FN Place indices(const Index* p, int64_t rest) {
    const int left = int(rest) - lane();
    p += threadIdx.x;
    return Place::of([&](int i) { return 32 * i < left ? int(p[32 * i]) : -1; });
  }
  static RANP_FN void share(Place p, S* h, int64_t at, int64_t row) {
    int* to = reinterpret_cast<int*>(h + row) + at + threadIdx.x;
    for (int i = 0; i < N; ++i) to[32 * i] = p.v[i];
  }
  template <class Index> static RANP_FN void scatter(const Index*, const S* t, S* h, int64_t labels, int64_t row) {
    for (int64_t at = 0; at < end(labels); at += W) own(reinterpret_cast<const int*>(h + row), t, h, int(labels), int(at));
  }
  static RANP_FN Vec collect(const S* h, int64_t) { return load(h); }

 private:
  static RANP_FN S smaller(S a, S b) { return a < b ? a : b; }
  static RANP_FN float improved(float a, float b) { return fminf(a, b); }
  static RANP_FN double improved(double a, double b) { return fmin(a, b); }
  template <class Any> static RANP_FN Any least_of_lanes(Any low) {
    for (int half = 16; half; half /= 2) low = smaller(low, __shfl_xor_sync(everyone, low, half));
    return low;
  }
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  // One instruction instead of five that wait for each other: floats are in the order of their bits, negative ones turned.
  static RANP_FN float least_of_lanes(float low) {
    int bits;
    memcpy(&bits, &low, sizeof bits);
    bits = __reduce_min_sync(everyone, bits ^ (bits >> 31 & INT32_MAX));
    bits ^= bits >> 31 & INT32_MAX;
    memcpy(&low, &bits, sizeof low);
    return low;
  }
#endif
  static RANP_FN Mask inside(int64_t rest) {
    const int left = int(rest) - lane();
    return Mask::of([&](int i) { return 32 * i < left; });
  }
  static RANP_FN unsigned ballot(Mask mask, int i, int64_t rest) {
    return __ballot_sync(everyone, mask.v[i] && 32 * i + lane() < int(rest));
  }
  static RANP_FN void own(const int* p, const S* t, S* h, int labels, int at) {
    constexpr int U = 8;
    const Place mine = places(at);
    Vec sums = {};
    RANP_UNROLL_BY(2)
    for (int l = 0; l < labels; l += U) {
      int source[U];
      S gradient[U];
      warp::spread(p + l, source);
      warp::spread(t + l, gradient);
      for (int k = 0; k < U; ++k)
        for (int i = 0; i < N; ++i)
          if (source[k] == mine.v[i]) sums.v[i] += gradient[k];
    }
    store(h + at, sums);
  }
};

// A launch that was refused must not be reported again by the next one.
static inline int status() {
  const cudaError_t code = cudaGetLastError();
  return code == cudaSuccess ? RANP_OK : RANP_CUDA + int(code);
}

}  // namespace warp
