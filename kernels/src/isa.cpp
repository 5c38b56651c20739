// The message passing and the pooling for one instruction set of the CPU: compiling.py compiles this file once for each, with RANP_ISA
// as its name, and cpu.cpp chooses between them when the library is used.
//
//   g++ -std=c++17 -O3 -fopenmp -ffp-contract=off -mavx2 -DRANP_ISA=avx2 -c isa.cpp
#include <stdlib.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "lanes.h"
#include "passing.h"
#include "passing_backward.h"
#include "pooling.h"

namespace RANP_ISA {

static int64_t padded(int64_t entries, int64_t to) { return (entries + to - 1) / to * to; }

// Fresh memory comes in pages of 4 KiB, one fault each, and a column touches a page per node.
static void in_huge_pages(void* data, int64_t bytes) {
#if defined(__linux__)
  const uintptr_t page = uintptr_t(1) << 21, begin = (uintptr_t(data) + page - 1) / page * page;
  const uintptr_t end = (uintptr_t(data) + bytes) / page * page;
  if (data && end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)data, (void)bytes;
#endif
}

static void* aligned(int64_t bytes) { return aligned_alloc(64, padded(bytes, 64)); }

static int64_t longest(const RanpPass& a) {
  int64_t nodes = 0;
  for (int64_t axis = 0; axis < a.directions / 2; ++axis)
    if (a.chain_longest[axis] > nodes) nodes = a.chain_longest[axis];
  return nodes;
}

// Memory of one thread, freed at the end of its scope.
template <class T> struct Workspace {
  T* data;
  explicit Workspace(int64_t entries) : data(static_cast<T*>(aligned(entries * sizeof(T)))) {}
  ~Workspace() { free(data); }
};

// Chains walked together: enough to keep the pipelines full, few enough for their buffers to stay in the cache.
template <class T> static int64_t team_size(const RanpPass& a, int64_t row) {
  int64_t team = row <= Lanes<T>::W ? 8 : row <= 4 * Lanes<T>::W ? 4 : 2;
  if (team > Lanes<T>::chains) team = Lanes<T>::chains;
  while (team > 1 && 2 * team * longest(a) * row * int64_t(sizeof(T)) > (3 << 19)) team /= 2;
  return team;
}

// Label-last copy of the unary costs, in tiles: they usually come label-first.
template <class T> static void gather_unary(const RanpPass& a, T* to) {
  const T* unary = static_cast<const T*>(a.unary);
  const int64_t* by = a.unary_strides;
  constexpr int64_t tile = 64 / sizeof(T);
#pragma omp parallel for collapse(2) num_threads(a.threads) schedule(static)
  for (int64_t b = 0; b < a.batch; ++b)
    for (int64_t i = 0; i < a.nodes; i += tile) {
      const int64_t end = i + tile < a.nodes ? i + tile : a.nodes;
      for (int64_t l = 0; l < a.labels; ++l)
        for (int64_t node = i; node < end; ++node)
          to[(b * a.nodes + node) * a.labels + l] = unary[b * by[0] + node * by[1] + l * by[2]];
    }
}

template <class T> static void arrange(T* data, int64_t row, int64_t margin, int64_t team, Scratch<T>* scratch) {
  for (int64_t c = 0; c < team; ++c, data += 2 * margin + 3 * row) {
    scratch[c] = {data + margin, data + 2 * margin + row, data + 2 * margin + 2 * row};
    for (int64_t k = 0; k < 2 * margin + row; ++k) data[k] = Lanes<T>::huge();
  }
}

template <class T, int Method> static int sweep(const RanpPass& a, int64_t iteration) {
  using L = Lanes<T>;
  const int64_t row = padded(a.labels, L::W), margin = padded(a.window, L::W), team = team_size<T>(a, row);
  int failed = 0;
#pragma omp parallel num_threads(a.threads)
  {
    const Workspace<T> memory(team * (2 * longest(a) * row + 2 * margin + 3 * row));
    if (!memory.data) {
#pragma omp atomic write
      failed = RANP_NO_MEMORY;
    }
#pragma omp barrier
    Scratch<T> scratch[L::chains];
    T* stage = memory.data + team * (2 * margin + 3 * row);
    if (!failed) arrange(memory.data, row, margin, team, scratch);
    for (int64_t axis = 0; axis < a.directions / 2 && !failed; ++axis) {
      const Axis along(a, axis);
      const int64_t count = along.count();
      const Buffers<T> to = buffers<T, Method>(a, iteration, axis);
#pragma omp for schedule(dynamic)
      for (int64_t k = 0; k < count; k += team) {
        along.each_team(k, k + team, [&](const Chain* chains, int size) {
          Forward<L, Method>{a, to, axis, iteration, chains, size, scratch, stage, row}();
        });
      }
    }
  }
  return failed;
}

// SGM takes the least cost of each node off between iterations.
template <class T> static void lower(const RanpPass& a, T* cost) {
#pragma omp parallel for num_threads(a.threads) schedule(static)
  for (int64_t i = 0; i < a.batch * a.nodes; ++i) {
    T* here = cost + i * a.labels;
    const T least = label_node<Lanes<T>>(here, a.labels, nullptr);
    for (int64_t l = 0; l < a.labels; ++l) here[l] -= least;
  }
}

template <class T, int Method> static int forward_as(const RanpPass& a) {
  const int64_t bytes = a.batch * a.nodes * a.labels * sizeof(T);
  in_huge_pages(a.cost, bytes);
  in_huge_pages(a.spare, bytes);
  in_huge_pages(a.messages, bytes * a.directions);
  if (a.ties) in_huge_pages(a.p, a.iterations * a.directions * a.batch * a.nodes * a.labels * (1 + a.two_bytes));
  if (a.unary_copy != a.unary) gather_unary<T>(a, static_cast<T*>(a.unary_copy));
  for (int64_t k = 0; k < a.iterations; ++k) {
    if (const int failed = sweep<T, Method>(a, k)) return failed;
    if (Method == RANP_SGM && a.normalise && k + 1 < a.iterations) lower<T>(a, buffers<T, Method>(a, k, 0).out);
  }
  return RANP_OK;
}

template <class T, int Method, class Index>
static int reverse(const RanpPass& a, int64_t iteration, const Gradients<T>& given) {
  using L = Lanes<T>;
  const int64_t row = padded(a.labels, L::W), parts = a.gradient_parts;
  const int64_t team = team_size<T>(a, row) < 4 ? team_size<T>(a, row) : 4;
  int failed = 0;
#pragma omp parallel num_threads(a.threads)
  {
    const Workspace<T> memory(team * (3 * longest(a) * row + 6 * row));
    if (!memory.data) {
#pragma omp atomic write
      failed = RANP_NO_MEMORY;
    }
#pragma omp barrier
    Reverse<T> scratch[L::chains];
    for (int64_t c = 0; c < team && !failed; ++c) {
      T* own = memory.data + 6 * c * row;
      scratch[c] = {own, own + row, own + 5 * row};
      L::clear(scratch[c].h, row);
    }
    T* stage = memory.data + team * 6 * row;
    for (int64_t axis = a.directions / 2 - 1; axis >= 0 && !failed; --axis) {
      const Axis along(a, axis);
      const int64_t teams = (along.count() + team - 1) / team, groups = parts ? parts : teams;
      const Gradients<T> to = given.over(a, axis);
#pragma omp for schedule(dynamic)
      for (int64_t g = 0; g < groups; ++g)
        for (int64_t k = g * team; k < along.count(); k += groups * team) {
          T* part = parts ? static_cast<T*>(a.grad_parts) + g * 2 * a.labels * a.pitch : nullptr;
          along.each_team(k, k + team, [&](const Chain* chains, int size) {
            Backward<L, Method, Index>{a, to, axis, iteration, chains, size, scratch, stage, row, part}();
          });
        }
    }
  }
  return failed;
}

// ISGMR's unary cost enters the S of every iteration.
template <class T> static void add(const RanpPass& a, const T* first, const T* second, T* to) {
#pragma omp parallel for num_threads(a.threads) schedule(static)
  for (int64_t i = 0; i < a.batch * a.nodes * a.labels; ++i) to[i] = first[i] + second[i];
}

template <class T, int Method, class Index> static int backward_as(const RanpPass& a) {
  T *unary = static_cast<T*>(a.grad_unary), *older = static_cast<T*>(a.older);
  const T* given = static_cast<const T*>(a.grad_cost);
  const int64_t bytes = a.batch * a.nodes * a.labels * sizeof(T);
  in_huge_pages(unary, bytes);
  if (a.iterations > 1) in_huge_pages(a.extra, bytes * (Method == RANP_TRWP ? a.directions : a.directions / 2));
  const T* in = given;
  for (int64_t k = a.iterations - 1; k >= 0; --k) {
    const bool direct = Method == RANP_TRWP || (Method == RANP_SGM && k == 0);
    T* out = direct ? unary : older + (k & (a.iterations > 1)) * a.batch * a.nodes * a.labels;
    if (const int failed = reverse<T, Method, Index>(a, k, {in, out, Method == RANP_TRWP})) return failed;
    if (Method == RANP_ISGMR) add<T>(a, k + 1 == a.iterations ? given : unary, out, unary);
    in = out;
  }
  return RANP_OK;
}

template <class T> static int forward(const RanpPass& a) {
  if (a.method == RANP_ISGMR) return forward_as<T, RANP_ISGMR>(a);
  if (a.method == RANP_TRWP) return forward_as<T, RANP_TRWP>(a);
  return forward_as<T, RANP_SGM>(a);
}

template <class T, class Index> static int backward(const RanpPass& a) {
  if (a.method == RANP_ISGMR) return backward_as<T, RANP_ISGMR, Index>(a);
  if (a.method == RANP_TRWP) return backward_as<T, RANP_TRWP, Index>(a);
  return backward_as<T, RANP_SGM, Index>(a);
}

int pass_forward(const RanpPass& a) { return a.float64 ? forward<double>(a) : forward<float>(a); }

int pass_backward(const RanpPass& a) {
  if (a.float64) return a.two_bytes ? backward<double, uint16_t>(a) : backward<double, uint8_t>(a);
  return a.two_bytes ? backward<float, uint16_t>(a) : backward<float, uint8_t>(a);
}

}  // namespace RANP_ISA
