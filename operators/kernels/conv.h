// Convolution and its gradients on row-major tensors, by the products of `product.h`, without the changes of layout that
// cost MXNet more than the convolutions themselves where channels are few.
#pragma once

#if defined(_OPENMP)
#include <omp.h>
#endif

#include "panels.h"

namespace vargfacenet {

inline int64_t max_threads() {
#if defined(_OPENMP)
  return omp_get_max_threads();
#else
  return 1;
#endif
}

// Weights of `rows` outputs for one list of taps, in the order of `gather`; `weight(row, tap)` returns each.
template <int high, typename Weight>
void pack_weights(int64_t rows, int64_t taps, Weight weight, float* to) {
  for (int64_t first = 0; first < rows; first += high, to += high * taps) {
    for (int64_t r = 0; r < high; ++r) {
      for (int64_t k = 0; k < taps; ++k) to[k * high + r] = first + r < rows ? weight(first + r, k) : 0;
    }
  }
}

template <int high>
int64_t packed_size(int64_t rows, int64_t taps) {
  return (rows + high - 1) / high * high * taps;
}

// y (batch, groups * out, ...) of x (batch, groups * in, ...) and weight (groups * out, in, kernel, kernel).
// Each row of weights is multiplied by `factors`, unless that is null; `finish` is as in product.h.
template <int high>
void conv_forward(const Convolution& conv, const float* x, const float* weight, const float* factors,
                  const Finish& finish, float* y) {
  const int64_t taps = conv.taps(), packed = packed_size<high>(conv.out, taps), together = conv.together();
  const int64_t blocks = (conv.batch + together - 1) / together;
  const std::vector<int64_t> offsets = tap_offsets(conv);
  std::vector<float> weights(conv.groups * packed);
  for (int64_t g = 0; g < conv.groups; ++g) {
    const float* from = weight + g * conv.out * taps;
    const auto factored = [&](int64_t r, int64_t k) {
      return factors ? from[r * taps + k] * factors[g * conv.out + r] : from[r * taps + k];
    };
    pack_weights<high>(conv.out, taps, factored, &weights[g * packed]);
  }
  // With fewer images and groups than threads, as for a single image, the outputs are divided among threads too.
  const int64_t highs = (conv.out + high - 1) / high;
  const int64_t parts = std::min(highs, std::max<int64_t>(1, max_threads() / (blocks * conv.groups)));
#pragma omp parallel for collapse(3)
  for (int64_t block = 0; block < blocks; ++block) {
    for (int64_t g = 0; g < conv.groups; ++g) {
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t begin = part * highs / parts * high, end = std::min(conv.out, (part + 1) * highs / parts * high);
        const int64_t row = g * conv.out + begin;
        Workspace workspace((conv.in * conv.phases() + conv.out) * conv.row() + 32);
        float* inputs = workspace.take(conv.in * conv.phases() * conv.row());
        float* outputs = workspace.take(conv.out * conv.row());
        const int64_t first = block * together, count = std::min(together, conv.batch - first);
        const float* from = x + conv.in_place(first, g);
        float* to = y + conv.out_place(first, g);
        if (!conv.direct()) lay_inputs(conv, from, count, inputs);
        const Finish rows = {finish.shift ? finish.shift + row : nullptr, finish.slope ? finish.slope + row : nullptr};
        gather<high>((conv.direct() ? from : inputs) + conv.margin(), count * conv.image(), offsets.data(), taps,
                     &weights[g * packed + begin * taps], rows,
                     (conv.direct() ? to : outputs) + begin * conv.row() + conv.margin(), conv.row(), end - begin);
        if (!conv.direct()) take_outputs(conv, outputs, begin, end, count, to);
      }
    }
  }
}

// Sources of the gradient of the inputs in one plane (see panels.h).
struct Phase {
  std::vector<int64_t> places, offsets;  // taps: their place in the kernel, and their distance in a panel of outputs
};

inline std::vector<Phase> gradient_phases(const Convolution& conv) {
  std::vector<Phase> phases(conv.phases());
  for (int64_t o = 0; o < conv.out; ++o) {
    for (int64_t y = 0; y < conv.kernel; ++y) {
      for (int64_t x = 0; x < conv.kernel; ++x) {
        Phase& phase = phases[y % conv.stride * conv.stride + x % conv.stride];
        phase.places.push_back(o * conv.taps() + y * conv.kernel + x);
        phase.offsets.push_back(o * conv.row() - y / conv.stride * conv.pitch() - x / conv.stride);
      }
    }
  }
  return phases;
}

// dx and dweight of dy. Images are divided into a fixed number of slices, whose parts of dweight are summed in order, so
// that the result does not depend on the number of threads.
template <int high>
void conv_backward(const Convolution& conv, const float* dy, const float* x, const float* weight, float* dx,
                   float* dweight) {
  const int64_t taps = conv.taps(), together = conv.together(), area = conv.kernel * conv.kernel;
  const int64_t blocks = (conv.batch + together - 1) / together;
  const int64_t slices = std::min(blocks, std::max<int64_t>(1, 8 / conv.groups));
  const int64_t share = conv.out * taps;
  const std::vector<int64_t> offsets = tap_offsets(conv);
  const std::vector<Phase> phases = gradient_phases(conv);
  const int64_t packed = packed_size<high>(conv.in, conv.out * area);
  std::vector<float> weights(conv.groups * packed), shares(conv.groups * slices * share);
  for (int64_t g = 0; g < conv.groups; ++g) {
    const float* from = weight + g * share;
    float* to = &weights[g * packed];
    for (const Phase& phase : phases) {
      const int64_t count = phase.places.size();
      pack_weights<high>(conv.in, count, [&](int64_t c, int64_t k) { return from[phase.places[k] + c * area]; }, to);
      to += packed_size<high>(conv.in, count);
    }
  }
#pragma omp parallel for collapse(2)
  for (int64_t slice = 0; slice < slices; ++slice) {
    for (int64_t g = 0; g < conv.groups; ++g) {
      Workspace workspace((2 * conv.in * conv.phases() + conv.out) * conv.row() + 48);
      float* inputs = workspace.take(conv.in * conv.phases() * conv.row());
      float* input_gradients = workspace.take(conv.in * conv.phases() * conv.row());
      float* gradients = workspace.take(conv.out * conv.row());
      for (int64_t block = slice * blocks / slices; block < (slice + 1) * blocks / slices; ++block) {
        const int64_t first = block * together, count = std::min(together, conv.batch - first);
        const int64_t length = count * conv.image(), place = conv.in_place(first, g);
        const float *above = dy + conv.out_place(first, g), *from = x + place;
        float* to = dx + place;
        if (!conv.direct()) {
          lay_outputs(conv, above, count, gradients);
          lay_inputs(conv, from, count, inputs);
          above = gradients + conv.margin();
          from = inputs + conv.margin();
          to = input_gradients + conv.margin();
        }
        reduce(above, conv.row(), conv.out, from, offsets.data(), taps, length, &shares[(g * slices + slice) * share]);
        const float* block_weights = &weights[g * packed];
        for (int64_t p = 0; p < conv.phases(); ++p) {
          const int64_t number = phases[p].offsets.size();
          gather<high>(above, length, phases[p].offsets.data(), number, block_weights, {}, to + p * conv.row(),
                       conv.phases() * conv.row(), conv.in);
          block_weights += packed_size<high>(conv.in, number);
        }
        if (!conv.direct()) take_inputs(conv, input_gradients, count, dx + place);
      }
    }
  }
#pragma omp parallel for
  for (int64_t g = 0; g < conv.groups; ++g) {
    for (int64_t i = 0; i < share; ++i) {
      float sum = 0;
      for (int64_t slice = 0; slice < slices; ++slice) sum += shares[(g * slices + slice) * share + i];
      dweight[g * share + i] = sum;
    }
  }
}

}  // namespace vargfacenet
