// The reassembly on the CPU: compiling.py compiles this file once for each instruction set, with RANP_ISA as its name,
// and once without, as the C interface that chooses between them.
//
//   g++ -std=c++17 -O3 -fopenmp -ffp-contract=off -mavx2 -DRANP_ISA=avx2 -c reassembly.cpp
//
// A vector is one of channels, so that any grid and any scale take the same path. Arrays with the channels first, as
// they usually come, are turned on their way in; results are turned in pieces that fit into the cache. Every result has
// one owner: results don't depend on the number of threads.
#if defined(RANP_ISA)
#include <stdlib.h>

#include "lanes.h"
#include "reassembly.h"

namespace RANP_ISA {

constexpr int64_t SEGMENT = 32;  // sources along a row that one piece of work takes
constexpr int64_t BLOCK = 64;    // channels that are turned at a time

static int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }

// to[j][i] = from[i][j] for `rows` x `columns` entries, whose rows are `pitch` apart.
template <class T>
static void turn_piece(const T* from, int64_t pitch, int64_t rows, int64_t columns, T* to, int64_t to_pitch) {
  constexpr int64_t tile = 16;
  for (int64_t i = 0; i < rows; i += tile)
    for (int64_t j = 0; j < columns; j += tile) {
      const int64_t i_end = lesser(i + tile, rows), j_end = lesser(j + tile, columns);
      for (int64_t jj = j; jj < j_end; ++jj)
        for (int64_t ii = i; ii < i_end; ++ii) to[jj * to_pitch + ii] = from[ii * pitch + jj];
    }
}

// (B, C, N) -> (B, N, C).
template <class T>
static const T* channels_last(const RanpReassembly& a, const void* from, int64_t positions, void* workspace) {
  const T* source = static_cast<const T*>(from);
  if (!a.first) return source;
  T* to = static_cast<T*>(workspace);
#pragma omp parallel for collapse(2) num_threads(a.threads) schedule(static)
  for (int64_t b = 0; b < a.batch; ++b)
    for (int64_t n = 0; n < positions; n += BLOCK) {
      const int64_t entry = b * a.channels * positions;
      turn_piece(source + entry + n, positions, a.channels, lesser(BLOCK, positions - n), to + entry + n * a.channels,
                 a.channels);
    }
  return to;
}

// The most fine positions that `sources` neighbouring sources along an axis have.
static int64_t longest(const RanpReassembly& a, int axis, int64_t sources) {
  int64_t most = 0;
  for (int64_t at = 0; at < a.coarse[axis]; ++at) {
    const int64_t span = a.starts[axis][lesser(at + sources, a.coarse[axis])] - a.starts[axis][at];
    if (span > most) most = span;
  }
  return most;
}

// Memory of one thread, freed at the end of its scope.
template <class T> struct Tile {
  T* data;
  explicit Tile(int64_t entries) : data(static_cast<T*>(malloc(entries * sizeof(T) + 1))) {}
  ~Tile() { free(data); }
};

// Calls `work` with the first source of each segment, the end of the segment and a thread's tile of `entries`.
template <class T, class Work> static int over_segments(const RanpReassembly& a, int64_t entries, Work work) {
  int failed = 0;
  const int64_t segments = (a.coarse[2] + SEGMENT - 1) / SEGMENT;
  const int64_t pieces = a.batch * a.coarse[0] * a.coarse[1] * segments;
#pragma omp parallel num_threads(a.threads)
  {
    const Tile<T> tile(entries);
    if (!tile.data) {
#pragma omp atomic write
      failed = RANP_NO_MEMORY;
    }
#pragma omp barrier
#pragma omp for schedule(dynamic)
    for (int64_t piece = 0; piece < pieces; ++piece) {
      if (failed) continue;
      const int64_t row = piece / segments, x = piece % segments * SEGMENT, y = row / a.coarse[1];
      const Site first{y / a.coarse[0], {y % a.coarse[0], row % a.coarse[1], x}};
      work(first, lesser(x + SEGMENT, a.coarse[2]), tile.data);
    }
  }
  return failed;
}

template <class T> static int forward(const RanpReassembly& a) {
  const Reassembly<Lanes<T>> whole{a};
  const int64_t sites = whole.sites(), positions = whole.positions();
  const T* x = channels_last<T>(a, a.x, sites, a.x_last);
  const int64_t tile = longest(a, 0, 1) * longest(a, 1, 1) * longest(a, 2, SEGMENT) * BLOCK;
  return over_segments<T>(a, a.first ? tile : 0, [&](Site site, int64_t end, T* memory) {
    const T* from = x + site.batch * sites * a.channels;
    T* out = static_cast<T*>(a.out) + site.batch * positions * a.channels;
    const int64_t first = site.at[2], begin = a.starts[2][first], length = a.starts[2][end] - begin;
    const int64_t step = a.first ? BLOCK : a.channels;
    for (int64_t c = 0; c < a.channels; c += step) {
      const int64_t channels = lesser(step, a.channels - c);
      for (site.at[2] = first; site.at[2] < end; ++site.at[2])
        whole.each_fine(site, begin, length, [&](auto count, const int64_t* fine, const int64_t* places) {
          constexpr int F = decltype(count)::value;
          if (a.first) whole.template gather<F>(site, from + c, channels, fine, memory, places, BLOCK);
          else whole.template gather<F>(site, from, channels, fine, out, fine, a.channels);
        });
      if (!a.first) break;
      const Range z = whole.fine_of(0, site.at[0]), y = whole.fine_of(1, site.at[1]);
      const T* row = memory;
      for (int64_t p = z.begin; p < z.end; ++p)
        for (int64_t q = y.begin; q < y.end; ++q, row += length * BLOCK)
          turn_piece(row, BLOCK, length, channels, out + c * positions + (p * a.fine[1] + q) * a.fine[2] + begin,
                     positions);
    }
  });
}

template <class T> static int gradient_of_x(const RanpReassembly& a, const T* grad) {
  const Reassembly<Lanes<T>> whole{a};
  const int64_t sites = whole.sites(), positions = whole.positions();
  return over_segments<T>(a, a.first ? SEGMENT * BLOCK : 0, [&](Site site, int64_t end, T* memory) {
    const T* from = grad + site.batch * positions * a.channels;
    T* to = static_cast<T*>(a.grad_x) + site.batch * sites * a.channels;
    const int64_t first = site.at[2], step = a.first ? BLOCK : a.channels;
    for (int64_t c = 0; c < a.channels; c += step) {
      const int64_t channels = lesser(step, a.channels - c);
      for (site.at[2] = first; site.at[2] < end; ++site.at[2]) {
        T* place = a.first ? memory + (site.at[2] - first) * BLOCK : to + whole.flat(site.at) * a.channels;
        whole.scatter(site, from + c, channels, place);
      }
      site.at[2] = first;
      if (a.first) turn_piece(memory, BLOCK, end - first, channels, to + c * sites + whole.flat(site.at), sites);
    }
  });
}

template <class T> static int gradient_of_kernels(const RanpReassembly& a, const T* grad) {
  const Reassembly<Lanes<T>> whole{a};
  const int64_t sites = whole.sites(), positions = whole.positions();
  const T* x = channels_last<T>(a, a.x, sites, a.x_last);
  return over_segments<T>(a, 0, [&](Site site, int64_t end, T*) {
    const T* from = x + site.batch * sites * a.channels;
    const T* given = grad + site.batch * positions * a.channels;
    for (; site.at[2] < end; ++site.at[2])
      whole.each_fine(site, 0, 0, [&](auto count, const int64_t* fine, const int64_t*) {
        for (int64_t i = 0; i < a.kernel[0]; ++i)
          for (int64_t j = 0; j < a.kernel[1]; ++j)
            whole.template correlate<decltype(count)::value>(site, i, j, from, given, fine);
      });
  });
}

template <class T> static int backward(const RanpReassembly& a) {
  const T* grad = channels_last<T>(a, a.grad, Reassembly<Lanes<T>>{a}.positions(), a.grad_last);
  if (a.grad_x)
    if (const int failed = gradient_of_x<T>(a, grad)) return failed;
  return a.grad_kernels ? gradient_of_kernels<T>(a, grad) : RANP_OK;
}

int reassembly_forward(const RanpReassembly& a) { return a.float64 ? forward<double>(a) : forward<float>(a); }

int reassembly_backward(const RanpReassembly& a) { return a.float64 ? backward<double>(a) : backward<float>(a); }

}  // namespace RANP_ISA

#else
#include <string.h>

#define RANP_ISA baseline
#include "reassembly.h"

#define RANP_DECLARE(isa)                        \
  namespace isa {                                \
  int reassembly_forward(const RanpReassembly&); \
  int reassembly_backward(const RanpReassembly&); \
  }

RANP_DECLARE(baseline)
#if defined(RANP_X86)
RANP_DECLARE(avx2)
RANP_DECLARE(avx512)
#endif

extern "C" const char* ranp_isa();  // cpu.cpp chooses

// Calls the function of the chosen instruction set.
#if defined(RANP_X86)
#define RANP_CHOSEN(function, arguments)                                  \
  (!strcmp(ranp_isa(), "avx512") ? avx512::function(arguments)            \
   : !strcmp(ranp_isa(), "avx2") ? avx2::function(arguments) : baseline::function(arguments))
#else
#define RANP_CHOSEN(function, arguments) baseline::function(arguments)
#endif

RANP_EXPORT int ranp_reassembly_size() { return sizeof(RanpReassembly); }
RANP_EXPORT int ranp_reassembly_forward(const RanpReassembly* a) { return RANP_CHOSEN(reassembly_forward, *a); }
RANP_EXPORT int ranp_reassembly_backward(const RanpReassembly* a) { return RANP_CHOSEN(reassembly_backward, *a); }
#endif
