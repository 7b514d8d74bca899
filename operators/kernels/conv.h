// Convolution and its gradients on row-major tensors, by the products of `product.h`, without the changes of layout that
// cost MXNet more than the convolutions themselves where channels are few.
#pragma once

#include <vector>

#include "panels.h"
#include "threads.h"
#include "weights.h"

namespace vargfacenet {

// Convolutions of one x (batch, groups * in, ...), as a single one whose groups have the outputs of all of them one after
// another: ys, each (batch, groups * out / ys.size(), ...). The weights are those of `forward_weights`, in tiles of `high`;
// `finish` is as in product.h, in the order of the weights.
template <int high>
void conv_forward(const Convolution& conv, const float* x, const Weights& weights, Finish finish,
                  const std::vector<float*>& ys) {
  const ImageBlocks blocks{conv, conv.together()};
  const Branches branches{conv, ys};
  const std::vector<int64_t> offsets = tap_offsets(conv);
  const Shares shares(conv.out, high, blocks.count());
#pragma omp parallel
  {
    const int64_t in_size = conv.in * conv.phases() * conv.row();
    Workspace workspace(in_size + conv.out * conv.row() + 32);
    Panel inputs(workspace.take(in_size), in_size);
    float* outputs = workspace.take(conv.out * conv.row());
    shares.divide([&](int64_t number, int64_t begin, int64_t end) {
      const ImageBlock block = blocks.at(number);
      float* panel = inputs.for_images(block.count);
      lay_inputs(conv, x + conv.in_place(block.first, block.group), block.count, panel);
      gather<high>(panel + conv.margin(), conv.places(block.count), offsets.data(), conv.taps(),
                   weights.rows(block.group, begin), finish.from(block.group * conv.out + begin),
                   outputs + begin * conv.row() + conv.margin(), conv.row(), end - begin);
      for (int64_t r = begin; r < end; ++r) {
        take_output(conv, outputs + r * conv.row(), block.count, branches.row(block, r), branches.image_step());
      }
    });
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

// dx and dweight of dy; without dx, dweight alone. Images are divided into a fixed number of slices, whose parts of dweight
// are summed in order, so that the result does not depend on the number of threads.
template <int high>
void conv_backward(const Convolution& conv, const float* dy, const float* x, const float* weight, float* dx,
                   float* dweight) {
  const int64_t taps = conv.taps(), together = conv.together(), area = conv.kernel * conv.kernel;
  const int64_t blocks = (conv.batch + together - 1) / together;
  const int64_t slices = std::min(blocks, std::max<int64_t>(1, 8 / conv.groups));
  const std::vector<int64_t> offsets = tap_offsets(conv);
  const std::vector<Phase> phases = dx ? gradient_phases(conv) : std::vector<Phase>();
  std::vector<Weights> weights;
  for (const Phase& phase : phases) {
    const auto transposed = [&](int64_t g, int64_t c, int64_t k) {
      return weight[g * conv.out * taps + phase.places[k] + c * area];
    };
    const int64_t sources = phase.places.size();
    weights.emplace_back(high, conv.groups, conv.in, sources, by_number(high, sources, transposed));
  }
  const int64_t slice_size = sums_size(conv.out, taps);
  std::vector<float> slice_sums(conv.groups * slices * slice_size);
#pragma omp parallel
  {
    const int64_t in_size = conv.in * conv.phases() * conv.row(), out_size = conv.out * conv.row();
    Workspace workspace((dx ? 2 : 1) * in_size + out_size + 48);
    Panel inputs(workspace.take(in_size), in_size), gradients(workspace.take(out_size), out_size);
    float* input_gradients = dx ? workspace.take(in_size) : nullptr;
#pragma omp for collapse(2)
    for (int64_t slice = 0; slice < slices; ++slice) {
      for (int64_t g = 0; g < conv.groups; ++g) {
        for (int64_t block = slice * blocks / slices; block < (slice + 1) * blocks / slices; ++block) {
          const int64_t first = block * together, count = std::min(together, conv.batch - first);
          const int64_t length = count * conv.image(), place = conv.in_place(first, g);
          float *above = gradients.for_images(count), *from = inputs.for_images(count);
          lay_outputs(conv, dy + conv.out_place(first, g), count, above);
          lay_inputs(conv, x + place, count, from);
          above += conv.margin();
          for (int64_t q = 0; q < length; q += kPiece) {
            reduce(above + q, conv.row(), conv.out, from + conv.margin() + q, offsets.data(), taps,
                   {1, std::min(kPiece, length - q), 0, 0}, &slice_sums[(g * slices + slice) * slice_size]);
          }
          if (!dx) continue;
          for (int64_t p = 0; p < conv.phases(); ++p) {
            gather<high>(above, length, phases[p].offsets.data(), phases[p].offsets.size(), weights[p].rows(g, 0), {},
                         input_gradients + conv.margin() + p * conv.row(), conv.phases() * conv.row(), conv.in);
          }
          take_inputs(conv, input_gradients, count, dx + place);
        }
      }
    }
  }
#pragma omp parallel for
  for (int64_t g = 0; g < conv.groups; ++g) {
    float* sums = &slice_sums[g * slices * slice_size];
    sum_slices(sums, slice_size, slices, slice_size);
    take_sums(sums, conv.out, taps, dweight + g * conv.out * taps, taps);
  }
}

}  // namespace vargfacenet
