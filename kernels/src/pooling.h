// Polynomial pooling, y = sum x^(a+1) / sum x^a over windows, and its gradients, for one instruction set: a window's
// elements go by once or twice in registers, where PyTorch makes some ten passes over maps of the output's size.
// pooling_reference.py says what is computed, and why in this form.
//
// The lanes of a vector are windows beside each other, or channels where these lie together. A channel of an image, or
// a vector of them, has one thread, so every output has one owner and its sums one order: threads change no bit.
// float32 has its own logarithm and exponential, in vectors; float64 takes those of the library, lane by lane.
#pragma once

#include <math.h>
#include <stdlib.h>

#include "arguments.h"
#include "lanes.h"

namespace RANP_ISA {

// Some windows beside each other, or some channels of one.
template <class T> struct Row {
  const T *x, *alpha, *shift;  // x: first element of lane 0's window, perhaps outside of the input; shift may be null
  int64_t x_step, alpha_step, shift_step, y_step;  // from lane to lane
  int64_t lanes;
};

// One element of all windows of a row: where it lies from their first one, and the lanes whose windows hold it.
struct Tap {
  int64_t offset, from, to;
};

template <class T> struct Power;

// Cephes' polynomials (Moshier): about an ulp, and a logarithm that is 0 at 1 exactly.
template <> struct Power<float> {
  using L = Lanes<float>;
  using Vec = L::Vec;
  using Ints = L::Mask;

  // ln x for x >= 0; at 0 some number that the caller does not use.
  static RANP_FN Vec logarithm(Vec x) {
    const Ints tiny = x < L::all(1.17549435e-38f);
    const Ints raised = (Ints)L::pick(tiny, x * 8388608.0f, x) - 0x3f3504f3;  // bits of sqrt(1/2)
    const Vec e = __builtin_convertvector(raised >> 23, Vec) - L::pick(tiny, L::all(23), L::all(0));
    const Vec m = (Vec)((raised & 0x7fffff) + 0x3f3504f3) - 1.0f, z = m * m;
    Vec p = L::all(7.0376836292e-2f);
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    return m + (p * m * z - e * 2.12194440e-4f - 0.5f * z) + e * 0.693359375f;
  }

  // e^x for x <= 0; 0 below the smallest normal number.
  static RANP_FN Vec exponential(Vec x) {
    const Ints gone = x < L::all(-87.3f);
    x = L::pick(gone, L::all(0), x);
    const Ints n = __builtin_convertvector(x * 1.44269504f - 0.5f, Ints);  // cuts towards 0, so to the nearest
    const Vec whole = __builtin_convertvector(n, Vec), f = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    Vec p = L::all(1.9875691500e-4f);
    p = p * f + 1.3981999507e-3f;
    p = p * f + 8.3334519073e-3f;
    p = p * f + 4.1665795894e-2f;
    p = p * f + 1.6666665459e-1f;
    p = p * f + 5.0000001201e-1f;
    p = p * (f * f) + f + 1.0f;
    return L::pick(gone, L::all(0), p * (Vec)((n + 127) << 23));
  }
};

template <> struct Power<double> {
  using Vec = Lanes<double>::Vec;
  static RANP_FN Vec logarithm(Vec x) {
    for (int64_t l = 0; l < Lanes<double>::W; ++l) x[l] = log(x[l]);
    return x;
  }
  static RANP_FN Vec exponential(Vec x) {
    for (int64_t l = 0; l < Lanes<double>::W; ++l) x[l] = exp(x[l]);
    return x;
  }
};

// The windows of a row's lanes [first, first + W): with r = x / max, w = r^alpha, sum w and d = 1 - y / max.
template <class T> struct Polynomial {
  using L = Lanes<T>;
  using Vec = typename L::Vec;
  using Mask = typename L::Mask;

  const Row<T>& row;
  const Tap* taps;
  int64_t count, first, rest;
  Vec alpha, shift, top, scale, total, fall;

  RANP_FN Polynomial(const Row<T>& windows, const Tap* elements, int64_t number, int64_t lane)
      : row(windows), taps(elements), count(number), first(lane), rest(windows.lanes - lane) {
    alpha = L::bounded(spread(row.alpha, row.alpha_step, first, row.lanes), L::W);
    alpha = L::smaller(alpha, L::all(T(1e30)));  // infinity times 0 is no number
    shift = row.shift ? spread(row.shift, row.shift_step, first, row.lanes) : Vec{};
    top = L::all(-L::huge());
    for (int64_t k = 0; k < count; ++k) {
      const Vec x = element(taps[k]);
      top = L::pick(held(taps[k]) & (x > top), x, top);
    }
    top -= shift;
    top = L::pick(top > Vec{}, top, Vec{});
    scale = L::pick(top > Vec{}, top, L::all(1));
    total = fall = Vec{};
    for (int64_t k = 0; k < count; ++k) {
      const Vec share = (element(taps[k]) - shift) / scale;
      Vec log, weight;
      weigh(share, held(taps[k]), log, weight);
      total += weight;
      fall += weight * (1 - share);
    }
    total = L::pick(total < L::all(1), L::all(1), total);  // only where all elements are 0
    fall /= total;
  }

  RANP_FN void pool(T* y) const { scatter(top * (1 - fall) + shift, y, row.y_step, first, row.lanes, false); }

  RANP_FN void reverse(const T* grad, T* grad_x, T* grad_alpha) const {
    const Vec scaled = spread(grad, row.y_step, first, row.lanes) / total;
    Vec of_alpha = {};
    for (int64_t k = 0; k < count; ++k) {
      const Vec share = (element(taps[k]) - shift) / scale;
      Vec log, weight;
      weigh(share, held(taps[k]), log, weight);
      const Vec ahead = fall - (1 - share);  // (x - y) / max
      const Vec slope = L::pick(share > Vec{}, weight / share, Vec{});
      of_alpha += weight * log * ahead;
      const int64_t from = taps[k].from > first ? taps[k].from : first;
      scatter(scaled * (weight + alpha * ahead * slope), grad_x + taps[k].offset, row.x_step, from, taps[k].to, true);
    }
    if (grad_alpha) scatter(of_alpha * top * scaled, grad_alpha, row.y_step, first, row.lanes, false);
  }

 private:
  // ln r and r^alpha, 0 in lanes that do not hold the element; what is negative or no number makes no number.
  RANP_FN void weigh(Vec share, Mask counts, Vec& log, Vec& weight) const {
    log = L::pick(share > Vec{}, Power<T>::logarithm(share), Vec{});
    weight = L::pick(share > Vec{}, Power<T>::exponential(alpha * log), L::pick(alpha > Vec{}, Vec{}, L::all(1)));
    weight = L::pick(counts, L::pick(share >= Vec{}, weight, share / share * L::all(T(NAN))), Vec{});
  }

  RANP_FN Mask held(const Tap& tap) const {
    const Vec lane = L::iota() + T(first);
    return (lane >= L::all(T(tap.from))) & (lane < L::all(T(tap.to)));
  }

  // 0 in lanes that do not hold it.
  RANP_FN Vec element(const Tap& tap) const {
    const int64_t from = tap.from > first ? tap.from : first;
    return spread(row.x + tap.offset, row.x_step, from, tap.to);
  }

  // Lane l takes data[(first + l) * step] where from <= first + l < to, else 0.
  RANP_FN Vec spread(const T* data, int64_t step, int64_t from, int64_t to) const {
    const int64_t end = to < first + L::W ? to : first + L::W;
    if (step == 0) return L::all(*data);
    if (from == first && end == first + L::W) {
      if (step == 1) return L::load(data + first);
      Vec v = {};
      for (int64_t l = 0; l < L::W; ++l) v[l] = data[(first + l) * step];
      return v;
    }
    Vec v = {};
    for (int64_t l = from; l < end; ++l) v[l - first] = data[l * step];
    return v;
  }

  RANP_FN void scatter(Vec v, T* data, int64_t step, int64_t from, int64_t to, bool add) const {
    const int64_t end = to < first + L::W ? to : first + L::W;
    if (step == 1 && from == first && end == first + L::W) {
      L::store(data + first, add ? L::load(data + first) + v : v);
      return;
    }
    for (int64_t l = from; l < end; ++l) data[l * step] = add ? data[l * step] + v[l - first] : v[l - first];
  }
};

// Which windows along an axis hold their element `tap`: 0 <= window * stride - padding + tap * dilation < size.
struct Holding {
  int64_t from, to;
  Holding(const RanpPool& a, int axis, int64_t tap) {
    const int64_t at = tap * a.dilation[axis] - a.padding[axis], last = a.size[axis] - 1 - at;
    from = at >= 0 ? 0 : (-at + a.stride[axis] - 1) / a.stride[axis];
    to = last < 0 ? 0 : last / a.stride[axis] + 1;
    if (to > a.count[axis]) to = a.count[axis];
  }
  bool has(int64_t window) const { return from <= window && window < to; }
};

// The taps of the windows at (d, h): of all along the last axis, or of the one at w for all channels.
static int64_t taps_of(const RanpPool& a, bool by_channel, int64_t d, int64_t h, int64_t w, int64_t lanes, Tap* taps) {
  int64_t count = 0;
  for (int64_t i = 0; i < a.kernel[0]; ++i) {
    if (!Holding(a, 0, i).has(d)) continue;
    for (int64_t j = 0; j < a.kernel[1]; ++j) {
      if (!Holding(a, 1, j).has(h)) continue;
      for (int64_t k = 0; k < a.kernel[2]; ++k) {
        const Holding along(a, 2, k);
        const int64_t offset = i * a.dilation[0] * a.x_strides[2] + j * a.dilation[1] * a.x_strides[3] +
                               k * a.dilation[2] * a.x_strides[4];
        if (!by_channel && along.from < along.to) taps[count++] = {offset, along.from, along.to};
        if (by_channel && along.has(w)) taps[count++] = {offset, 0, lanes};
      }
    }
  }
  return count;
}

template <class T> static const T* at(const void* data, int64_t offset) {
  return data ? static_cast<const T*>(data) + offset : nullptr;
}

static int64_t offset_of(const int64_t* strides, const int64_t* place) {
  int64_t offset = 0;
  for (int axis = 0; axis < 5; ++axis) offset += strides[axis] * place[axis];
  return offset;
}

// A row of windows whose first is at `place` (B, C, D, H, W).
template <class T>
static void pool_row(const RanpPool& a, bool by_channel, bool backward, int64_t lanes, const int64_t* place, Tap* taps) {
  const int axis = by_channel ? 1 : 4;
  int64_t from[5] = {place[0], place[1]};  // where the first window begins
  for (int k = 0; k < 3; ++k) from[2 + k] = place[2 + k] * a.stride[k] - a.padding[k];
  const int64_t x = offset_of(a.x_strides, from), y = offset_of(a.y_strides, place);
  const Row<T> row{at<T>(a.x, x),
                   at<T>(a.alpha, offset_of(a.alpha_strides, place)),
                   at<T>(a.shift, offset_of(a.shift_strides, place)),
                   by_channel ? a.x_strides[1] : a.x_strides[4] * a.stride[2],
                   a.alpha_strides[axis],
                   a.shift_strides[axis],
                   a.y_strides[axis],
                   lanes};
  const int64_t count = taps_of(a, by_channel, place[2], place[3], place[4], lanes, taps);
  for (int64_t l = 0; l < lanes; l += Lanes<T>::W) {
    const Polynomial<T> windows(row, taps, count, l);
    if (!backward) windows.pool(static_cast<T*>(a.y) + y);
    else
      windows.reverse(at<T>(a.grad, y), static_cast<T*>(a.grad_x) + x,
                      a.grad_alpha ? static_cast<T*>(a.grad_alpha) + y : nullptr);
  }
}

template <class T> static int pool_as(const RanpPool& a, bool backward) {
  const bool by_channel = a.y_strides[1] == 1 && a.channels > 1;
  const int64_t share = by_channel ? Lanes<T>::W : 1, shares = (a.channels + share - 1) / share;
  int failed = RANP_OK;
#pragma omp parallel num_threads(a.threads)
  {
    Tap* taps = static_cast<Tap*>(malloc(a.kernel[0] * a.kernel[1] * a.kernel[2] * sizeof(Tap)));
    if (!taps) {
#pragma omp atomic write
      failed = RANP_NO_MEMORY;
    }
#pragma omp barrier
#pragma omp for collapse(2) schedule(static)
    for (int64_t b = 0; b < a.batch; ++b)
      for (int64_t s = 0; s < shares; ++s) {
        if (failed) continue;
        const int64_t c = s * share, left = a.channels - c;
        const int64_t lanes = !by_channel ? a.count[2] : left < share ? left : share;
        for (int64_t d = 0; d < a.count[0]; ++d)
          for (int64_t h = 0; h < a.count[1]; ++h)
            for (int64_t w = 0; w < (by_channel ? a.count[2] : 1); ++w) {
              const int64_t place[5] = {b, c, d, h, w};
              pool_row<T>(a, by_channel, backward, lanes, place, taps);
            }
      }
    free(taps);
  }
  return failed;
}

int p_pool(const RanpPool& a) { return a.float64 ? pool_as<double>(a, false) : pool_as<float>(a, false); }
int p_pool_backward(const RanpPool& a) { return a.float64 ? pool_as<double>(a, true) : pool_as<float>(a, true); }

}  // namespace RANP_ISA
