// A vector of labels on the CPU. The walkers (passing.h) are written against this interface; cuda.cu gives it a warp
// instead, where a "vector" is one value per thread. `rest` is how many labels are left from here on: the last vector
// of a row may be partial, and then loads fill with zeros and stores leave the others alone.
//
// With RANP_WARP the vector is as wide as a warp and the team is one chain, as on the GPU: a test compiles the walkers
// that way, so that what cuda.cu runs is exercised on machines without one.
//
// Compiled once per instruction set, each in a namespace of its own (RANP_ISA), without anything from the standard
// library that the linker could merge between them.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "arguments.h"

#if defined(RANP_WARP)
#define RANP_ACCUMULATORS 8
#elif defined(__AVX512F__)
#define RANP_VECTOR_BYTES 64
#define RANP_ACCUMULATORS 16
#elif defined(__AVX2__)
#define RANP_VECTOR_BYTES 32
#define RANP_ACCUMULATORS 8
#else
#define RANP_VECTOR_BYTES 16
#define RANP_ACCUMULATORS 8
#endif

namespace RANP_ISA {

template <class S> struct Bits;
template <> struct Bits<float> { using type = int32_t; };
template <> struct Bits<double> { using type = int64_t; };

// 0, 1, 2, ... in memory: built in a loop, GCC 12 would build it again wherever it is used.
template <class S> struct Count {
  alignas(64) static constexpr S values[32] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                               16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};
};

template <class S> struct Lanes {
  using Scalar = S;
#if defined(RANP_WARP)
  static constexpr int64_t W = 32;
  static constexpr int chains = 1;
#else
  static constexpr int64_t W = RANP_VECTOR_BYTES / sizeof(S);
  static constexpr int chains = 8;  // walked in lockstep, at most
#endif
  static constexpr bool whole = false;  // whether one vector is all labels of a node, and a row of V
  static constexpr int accumulators = RANP_ACCUMULATORS;
  static constexpr int block = accumulators;  // vectors of labels that the minima are taken of at a time
  typedef S Vec __attribute__((vector_size(W * sizeof(S))));
  typedef typename Bits<S>::type Mask __attribute__((vector_size(W * sizeof(S))));
  using Place = Vec;  // a label per entry, as a value: labels are at most 1024
  using Size = int64_t;
  static constexpr int ahead = 1;  // sources whose rows of V are loaded before the first is used
  typedef S Loose __attribute__((vector_size(W * sizeof(S)), aligned(sizeof(S)), may_alias));

  static RANP_FN int64_t end(int64_t labels) { return labels; }  // of a loop over the vectors of a node
  static RANP_FN void sync() {}
  static RANP_FN bool leader() { return true; }
  static RANP_FN S huge() { return sizeof(S) == 4 ? S(3e38) : S(1e308); }
  static RANP_FN Vec all(S x) { return Vec{} + x; }
  static RANP_FN Vec pick(Mask mask, Vec a, Vec b) { return mask ? a : b; }
  static RANP_FN Vec smaller(Vec a, Vec b) { return a < b ? a : b; }
  static RANP_FN Vec improved(Vec candidate, Vec best) { return smaller(candidate, best); }
  static RANP_FN Vec load(const S* p) { return *reinterpret_cast<const Loose*>(p); }
  static RANP_FN void store(S* p, Vec v) { *reinterpret_cast<Loose*>(p) = v; }

  static RANP_FN Vec iota() { return load(Count<S>::values); }
  static RANP_FN Place place(int64_t label) { return all(S(label)); }
  static RANP_FN Place places(int64_t first) { return iota() + all(S(first)); }
  static RANP_FN Place load_place(const S* row) { return load(row); }
  static RANP_FN void store_place(S* row, Place places) { store(row, places); }
  static RANP_FN void spread(const S* from, S (&to)[1]) { to[0] = *from; }

  // Columns and diagonals jump from row to row; no hardware prefetcher follows them.
  static constexpr int64_t distance = 2;
  static RANP_FN bool jumps(int64_t stride) { return stride != 1 && stride != -1; }
  template <bool Write = false> static RANP_FN void prefetch(const void* p, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(static_cast<const char*>(p) + at, Write);
  }

  static RANP_FN Vec load(const S* p, int64_t rest) {
    if (rest >= W) return load(p);
    return load_part(p, rest);
  }
  static RANP_FN void store(S* p, Vec v, int64_t rest) {
    if (rest >= W) store(p, v);
    else store_part(p, v, rest);
  }
  // Lanes beyond `rest` replaced by a value that no minimum takes.
  static RANP_FN Vec bounded(Vec v, int64_t rest) {
    return rest >= W ? v : pick(iota() < all(S(rest)), v, all(huge()));
  }
  static RANP_FN Vec zeroed(Vec v, int64_t rest) {
    return rest >= W ? v : pick(iota() < all(S(rest)), v, Vec{});
  }

  static RANP_FN S least(Vec v) {
    if constexpr (W > 16) v = smaller(v, folded<16>(v));
    if constexpr (W > 8) v = smaller(v, folded<8>(v));
    if constexpr (W > 4) v = smaller(v, folded<4>(v));
    if constexpr (W > 2) v = smaller(v, folded<2>(v));
    return smaller(v, folded<1>(v))[0];
  }
  // The first or the last entry that holds, of the first `rest`; -1: none does.
  static RANP_FN int64_t first(Mask mask, int64_t rest) {
    const uint32_t here = bits(mask, rest);
    return here ? __builtin_ctz(here) : -1;
  }
  static RANP_FN int64_t last(Mask mask, int64_t rest) {
    const uint32_t here = bits(mask, rest);
    return here ? 31 - __builtin_clz(here) : -1;
  }
  static RANP_FN S sum(Vec v) {
    if constexpr (W > 16) v += folded<16>(v);
    if constexpr (W > 8) v += folded<8>(v);
    if constexpr (W > 4) v += folded<4>(v);
    if constexpr (W > 2) v += folded<2>(v);
    return (v + folded<1>(v))[0];
  }

  static RANP_FN void store_index(void* p, int64_t at, Place v, int64_t rest, bool two_bytes) {
    if (two_bytes) store_narrow(static_cast<uint16_t*>(p) + at, v, rest);
    else store_narrow(static_cast<uint8_t*>(p) + at, v, rest);
  }

  // A label per lane: the CPU's one thread takes them all.
  static RANP_FN int64_t lane() { return 0; }
  static RANP_FN int64_t threads() { return 1; }
  static RANP_FN S total(S x) { return x; }

  // Adds t[l] to h[p[l]], in four copies `row` entries apart, so that equal sources don't wait in line; `collect` sums
  // them up and leaves them at 0.
  template <class Index> static RANP_FN Place indices(const Index*, int64_t) { return Place{}; }
  static RANP_FN void share(Place, S*, int64_t, int64_t) {}
  static RANP_FN void clear(S* h, int64_t row) {
    for (int64_t i = 0; i < 4 * row; i += W) store(h + i, Vec{});
  }
  template <class Index> static RANP_FN void scatter(const Index* p, const S* t, S* h, int64_t labels, int64_t row) {
    int64_t l = 0;
    for (; l + 4 <= labels; l += 4)
      for (int k = 0; k < 4; ++k) h[k * row + p[l + k]] += t[l + k];
    for (; l < labels; ++l) h[p[l]] += t[l];
  }
  static RANP_FN Vec collect(S* h, int64_t row) {
    const Vec sum = (load(h) + load(h + row)) + (load(h + 2 * row) + load(h + 3 * row));
    for (int k = 0; k < 4; ++k) store(h + k * row, Vec{});
    return sum;
  }

 private:
  // One bit per lane, the first label lowest.
  static RANP_FN uint32_t bits(Mask mask, int64_t rest) {
    const uint32_t here = bits(mask);
    return rest < W ? here & ((uint32_t(1) << rest) - 1) : here;
  }
  static RANP_FN uint32_t bits(Mask mask) {
#if defined(__AVX512F__) && !defined(RANP_WARP)
    return sizeof(S) == 4 ? _mm512_movepi32_mask((__m512i)mask) : _mm512_movepi64_mask((__m512i)mask);
#elif defined(__AVX2__) && !defined(RANP_WARP)
    return sizeof(S) == 4 ? _mm256_movemask_ps((__m256)mask) : _mm256_movemask_pd((__m256d)mask);
#else
    uint32_t found = 0;
    for (int i = 0; i < W; ++i) found |= uint32_t(mask[i] & 1) << i;
    return found;
#endif
  }

  template <class Narrow> static RANP_FN void store_narrow(Narrow* p, Vec v, int64_t rest) {
    typedef Narrow Small __attribute__((vector_size(W * sizeof(Narrow))));
    const Small small = __builtin_convertvector(__builtin_convertvector(v, Mask), Small);
    if (rest >= W) {
      memcpy(p, &small, sizeof small);
      return;
    }
    Narrow values[W];
    memcpy(values, &small, sizeof small);
    for (int64_t i = 0; i < rest; ++i) p[i] = values[i];
  }

  // Lane i takes what is in lane i ^ half; a constant, so that the compiler finds the cheapest way.
  template <int half> static RANP_FN Vec folded(Vec v) { return folded<half>(v, std::make_integer_sequence<int, W>()); }
  template <int half, int... lane> static RANP_FN Vec folded(Vec v, std::integer_sequence<int, lane...>) {
    return __builtin_shuffle(v, Mask{(lane ^ half)...});
  }

#if defined(__AVX512F__) && !defined(RANP_WARP)
  static RANP_FN Vec load_part(const float* p, int64_t rest) { return _mm512_maskz_loadu_ps((1u << rest) - 1, p); }
  static RANP_FN Vec load_part(const double* p, int64_t rest) { return _mm512_maskz_loadu_pd((1u << rest) - 1, p); }
  static RANP_FN void store_part(float* p, Vec v, int64_t rest) {
    _mm512_mask_storeu_ps(p, (1u << rest) - 1, reinterpret_cast<__m512>(v));
  }
  static RANP_FN void store_part(double* p, Vec v, int64_t rest) {
    _mm512_mask_storeu_pd(p, (1u << rest) - 1, reinterpret_cast<__m512d>(v));
  }
#else
  static RANP_FN Vec load_part(const S* p, int64_t rest) {
    Vec v = {};
    for (int i = 0; i < W; ++i)
      if (i < rest) v[i] = p[i];
    return v;
  }
  static RANP_FN void store_part(S* p, Vec v, int64_t rest) {
    for (int i = 0; i < W; ++i)
      if (i < rest) p[i] = v[i];
  }
#endif
};

}  // namespace RANP_ISA
