// Sequential sweeps over a grid, one node after the other in row-major order: TRW-S (Kolmogorov, PAMI 2006) and ICM
// (Besag, 1986), in float64. Included by cpu.cpp alone; a sequential method has no CUDA version. The batch entries are
// independent, so threads share them out and every output has one owner.
//
// Layout (all contiguous): unary (B, N, L), weights (B, K, N), messages (B, K, N, L), pairwise (L, L), labels (B, N).
// Edge k of node i joins it to the earlier node i - step[k], and is stored at i; the label of the earlier node is the
// first index of pairwise. sequential.py holds the same computation in PyTorch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "arguments.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define RANP_SEQUENTIAL_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define RANP_SEQUENTIAL_CLONES
#endif

namespace ranp_sequential {

// out[l] = min over u of from[u] + weight * rows[u * labels + l]
RANP_SEQUENTIAL_CLONES
static void min_plus(int64_t labels, const double* from, double weight, const double* rows, double* out) {
  std::fill(out, out + labels, std::numeric_limits<double>::infinity());
  for (int64_t u = 0; u < labels; ++u) {
    const double base = from[u];
    const double* row = rows + u * labels;
    for (int64_t l = 0; l < labels; ++l) {
      const double candidate = base + weight * row[l];
      out[l] = candidate < out[l] ? candidate : out[l];
    }
  }
}

struct Grid {
  const int64_t* size;   // (3,)
  const int64_t* steps;  // (edges, 3)
  int64_t edges, labels;

  int64_t nodes() const { return size[0] * size[1] * size[2]; }

  // The node at i + sign * step[edge], or -1.
  int64_t neighbour(int64_t i, int64_t edge, int64_t sign) const {
    const int64_t at[3] = {i / (size[1] * size[2]), i / size[2] % size[1], i % size[2]};
    int64_t found = 0;
    for (int axis = 0; axis < 3; ++axis) {
      const int64_t moved = at[axis] + sign * steps[3 * edge + axis];
      if (moved < 0 || moved >= size[axis]) return -1;
      found = found * size[axis] + moved;
    }
    return found;
  }
};

// One batch entry. `after` is the pairwise matrix, `before` its transpose: rows are the label that a message leaves.
struct Field {
  Grid grid;
  const double *unary, *weights, *after, *before;
  double* messages;
  int64_t* labels;
  double *belief, *pulled, *sent;  // scratch, (L,) each

  double* message(int64_t edge, int64_t i) const { return messages + (edge * grid.nodes() + i) * grid.labels; }
  double weight(int64_t edge, int64_t i) const { return weights[edge * grid.nodes() + i]; }
  const double* cost(int64_t i) const { return unary + i * grid.labels; }

  void add(const double* part, double scale = 1) const {
    for (int64_t l = 0; l < grid.labels; ++l) belief[l] += scale * part[l];
  }

  // Sum the unary cost and all messages of a node into `belief`; return gamma = 1 / max(earlier, later neighbours).
  // Earlier neighbours come first: after 50 iterations even float64 shows the order, and this one is the published.
  double gather(int64_t i) const {
    int64_t earlier = 0, later = 0;
    std::copy(cost(i), cost(i) + grid.labels, belief);
    for (int64_t edge = 0; edge < grid.edges; ++edge)
      if (grid.neighbour(i, edge, -1) >= 0) ++earlier, add(message(edge, i));
    for (int64_t edge = 0; edge < grid.edges; ++edge) {
      const int64_t next = grid.neighbour(i, edge, +1);
      if (next >= 0) ++later, add(message(edge, next));
    }
    return 1.0 / std::max<int64_t>({earlier, later, 1});
  }

  // Replace the message stored at `slot` by the one that leaves the node in `belief`; return the minimum taken off.
  double send(int64_t edge, int64_t slot, double gamma, const double* rows) const {
    double* held = message(edge, slot);
    for (int64_t l = 0; l < grid.labels; ++l) pulled[l] = gamma * belief[l] - held[l];
    min_plus(grid.labels, pulled, weight(edge, slot), rows, sent);
    const double least = *std::min_element(sent, sent + grid.labels);
    for (int64_t l = 0; l < grid.labels; ++l) held[l] = sent[l] - least;
    return least;
  }

  void forward() const {
    for (int64_t i = 0; i < grid.nodes(); ++i) {
      const double gamma = gather(i);
      for (int64_t edge = 0; edge < grid.edges; ++edge) {
        const int64_t next = grid.neighbour(i, edge, +1);
        if (next >= 0) send(edge, next, gamma, after);
      }
    }
  }

  // Returns the lower bound: the minima taken off the beliefs and the messages.
  double backward() const {
    double bound = 0;
    for (int64_t i = grid.nodes() - 1; i >= 0; --i) {
      const double gamma = gather(i);
      const double least = *std::min_element(belief, belief + grid.labels);
      for (int64_t l = 0; l < grid.labels; ++l) belief[l] -= least;
      bound += least;
      for (int64_t edge = 0; edge < grid.edges; ++edge)
        if (grid.neighbour(i, edge, -1) >= 0) bound += send(edge, i, gamma, before);
    }
    return bound;
  }

  // Label one node given its earlier neighbours' labels, and either the messages (TRW-S) or labels (ICM) of the later.
  void choose(int64_t i, bool by_messages) const {
    std::copy(cost(i), cost(i) + grid.labels, belief);
    for (int64_t edge = 0; edge < grid.edges; ++edge) {
      const int64_t last = grid.neighbour(i, edge, -1);
      if (last >= 0) add(after + labels[last] * grid.labels, weight(edge, i));
    }
    for (int64_t edge = 0; edge < grid.edges; ++edge) {
      const int64_t next = grid.neighbour(i, edge, +1);
      if (next < 0) continue;
      if (by_messages) add(message(edge, next));
      else add(before + labels[next] * grid.labels, weight(edge, next));
    }
    labels[i] = std::min_element(belief, belief + grid.labels) - belief;
  }

  void choose_all(bool by_messages) const {
    for (int64_t i = 0; i < grid.nodes(); ++i) choose(i, by_messages);
  }
};

// Calls `visit(field, entry)` for every batch entry, each with scratch of its own.
template <typename Visit>
void each(int64_t batch, Grid grid, const double* unary, const double* weights, const double* pairwise,
          double* messages, int64_t* labels, int threads, Visit visit) {
  const int64_t L = grid.labels, N = grid.nodes(), K = grid.edges;
  std::vector<double> before(L * L), scratch(batch * 3 * L);
  for (int64_t u = 0; u < L; ++u)
    for (int64_t l = 0; l < L; ++l) before[l * L + u] = pairwise[u * L + l];
#pragma omp parallel for num_threads(threads) if (batch > 1)
  for (int64_t b = 0; b < batch; ++b) {
    double* own = scratch.data() + b * 3 * L;
    double* at = messages ? messages + b * K * N * L : nullptr;
    visit(Field{grid, unary + b * N * L, weights + b * K * N, pairwise, before.data(), at, labels + b * N,
                own, own + L, own + 2 * L}, b);
  }
}

}  // namespace ranp_sequential

// No exception crosses the C interface: what can be thrown is that memory ran out.
RANP_EXPORT int ranp_trws_sweep(
    int64_t batch, const int64_t* size, int64_t edges, const int64_t* steps, int64_t labels, const double* unary,
    const double* weights, const double* pairwise, double* messages, int64_t* out, double* bounds, int threads) try {
  using namespace ranp_sequential;
  each(batch, Grid{size, steps, edges, labels}, unary, weights, pairwise, messages, out, threads,
       [=](const Field& field, int64_t b) {
         field.forward();
         bounds[b] = field.backward();
         field.choose_all(true);
       });
  return RANP_OK;
} catch (...) {
  return RANP_NO_MEMORY;
}

RANP_EXPORT int ranp_icm_sweep(
    int64_t batch, const int64_t* size, int64_t edges, const int64_t* steps, int64_t labels, const double* unary,
    const double* weights, const double* pairwise, int64_t* out, int threads) try {
  using namespace ranp_sequential;
  each(batch, Grid{size, steps, edges, labels}, unary, weights, pairwise, nullptr, out, threads,
       [](const Field& field, int64_t) { field.choose_all(false); });
  return RANP_OK;
} catch (...) {
  return RANP_NO_MEMORY;
}
