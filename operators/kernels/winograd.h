// 3x3 convolution that keeps the size of the image, and its gradient of the inputs, by two thirds of the multiplications:
// Winograd's minimal filtering F(2, 3) [Lavin and Gray, arXiv 1509.09308] along the columns of an image.
//
// Two rows of outputs depend on four rows d of inputs, and on the three rows g of the kernel:
//
//   first  = (d1 + d2) (g0 + g1 + g2) / 2 + (d2 - d1) (g0 - g1 + g2) / 2 + (d0 - d2) g0
//   second = (d1 + d2) (g0 + g1 + g2) / 2 - (d2 - d1) (g0 - g1 + g2) / 2 + (d3 - d1) g2
//
// Each product is a convolution along rows. Sums and differences of rows take whole vectors, unlike those of columns. An
// infinite input gives what is not a number where a plain convolution may give an infinity.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "panels.h"
#include "threads.h"
#include "weights.h"

namespace vargfacenet {

// A panel has four planes for each channel of inputs, the factors above, and two for each channel of outputs, the first and
// the second rows. For each pair of rows of each image, planes have a row of `pitch` numbers; rows share the padding.
struct Pairs {
  Convolution conv;

  int64_t count() const { return (conv.out_height + 1) / 2; }
  int64_t pitch() const { return conv.out_width + 1; }
  int64_t image() const { return count() * pitch(); }
  int64_t taps() const { return conv.in * 3; }  // of one product
  int64_t together() const {
    const int64_t cached = kCached / ((4 * conv.in + 2 * conv.out) * image());
    const int64_t worthwhile = 128 / image();  // places for some whole tiles
    return std::min(conv.batch, std::max<int64_t>({1, cached, worthwhile}));
  }
  int64_t places(int64_t images) const { return images * image() - 1; }
  // Taps exceed a place by 2. As in panels.h, an odd multiple of a cache line.
  int64_t row() const { return (Convolution::aligned(together() * image() + 2 + kSlack) / 16 | 1) * 16; }
};

// Factors of a row of pairs. The last vector overlaps the one before it.
template <int lanes>
inline void pair_block(const float* const d[4], float* const factors[4], int64_t i) {
  typedef float Block __attribute__((vector_size(4 * lanes), aligned(4), may_alias));
  Block in[4];
  for (int k = 0; k < 4; ++k) in[k] = *reinterpret_cast<const Block*>(d[k] + i);
  *reinterpret_cast<Block*>(factors[0] + i) = in[1] + in[2];
  *reinterpret_cast<Block*>(factors[1] + i) = in[2] - in[1];
  *reinterpret_cast<Block*>(factors[2] + i) = in[0] - in[2];
  *reinterpret_cast<Block*>(factors[3] + i) = in[3] - in[1];
}

template <int lanes>
inline void pair_row(const float* const d[4], float* const factors[4], int64_t width) {
  for (int64_t i = 0; i < width - lanes; i += lanes) pair_block<lanes>(d, factors, i);
  pair_block<lanes>(d, factors, width - lanes);
}

// Inputs (count, groups * in, height, width) of one group into a panel; `zeros` has a row of them.
inline void lay_pairs(const Pairs& pairs, const float* x, int64_t count, const float* zeros, float* panel) {
  const Convolution& conv = pairs.conv;
  const int64_t width = conv.in_width, height = conv.in_height;
  for (int64_t c = 0; c < conv.in; ++c) {
    for (int64_t n = 0; n < count; ++n) {
      const float* image = x + (n * conv.groups * conv.in + c) * height * width;
      float* to = panel + 4 * c * pairs.row() + n * pairs.image() + 1;
      for (int64_t pair = 0; pair < pairs.count(); ++pair, to += pairs.pitch()) {
        const float* d[4];
        for (int64_t k = 0; k < 4; ++k) {
          const int64_t y = 2 * pair + k - 1;
          d[k] = y < 0 || y >= height ? zeros : image + y * width;
        }
        float* const factors[4] = {to, to + pairs.row(), to + 2 * pairs.row(), to + 3 * pairs.row()};
        if (width >= 16 && kLanes == 16) {
          pair_row<16>(d, factors, width);
        } else if (width >= 8) {
          pair_row<8>(d, factors, width);
        } else if (width >= 4) {
          pair_row<4>(d, factors, width);
        } else {
          for (int64_t i = 0; i < width; ++i) pair_block<1>(d, factors, i);
        }
      }
    }
  }
}

// A tile of the first and of the second rows. `in` is the first plane of factors, `step` the distance to the next one;
// weights are in the order of the products.
template <int high, int wide>
inline void pairs_tile(const float* in, int64_t step, const int64_t* offsets, int64_t taps, const float* weights,
                       Finish finish, float* first, float* second, int64_t out_stride, int64_t rows) {
  Lanes sums[high][wide] = {}, product[high][wide] = {}, differences[high][wide];
  accumulate(in, offsets, taps, weights, sums);
  accumulate(in + step, offsets, taps, weights + taps * high, product);
  for (int r = 0; r < high; ++r) {
    for (int v = 0; v < wide; ++v) {
      differences[r][v] = sums[r][v] - product[r][v];
      sums[r][v] += product[r][v];
    }
  }
  accumulate(in + 2 * step, offsets, taps, weights + 2 * taps * high, sums);
  write_sums(sums, finish, first, out_stride, rows);
  accumulate(in + 3 * step, offsets, taps, weights + 3 * taps * high, differences);
  write_sums(differences, finish, second, out_stride, rows);
}

// One channel of outputs out of its two planes, into images of which the next is `image_step` numbers away.
inline void take_pairs(const Pairs& pairs, const float* planes, int64_t count, float* y, int64_t image_step) {
  const int64_t width = pairs.conv.out_width, height = pairs.conv.out_height;
  for (int64_t n = 0; n < count; ++n, planes += pairs.image(), y += image_step) {
    copy_rows(planes, pairs.pitch(), y, 2 * width, pairs.count(), width);
    copy_rows(planes + pairs.row(), pairs.pitch(), y + width, 2 * width, height / 2, width);
  }
}

// As `conv_forward`, with the weights of `forward_weights` for it.
template <int high>
void winograd_forward(const Convolution& conv, const float* x, const Weights& weights, Finish finish,
                      const std::vector<float*>& ys) {
  const Pairs pairs{conv};
  const ImageBlocks blocks{conv, pairs.together()};
  const Branches branches{conv, ys};
  const int64_t row = pairs.row(), taps = pairs.taps();
  std::vector<int64_t> offsets;
  for (int64_t k = 0; k < taps; ++k) offsets.push_back(k / 3 * 4 * row + k % 3);
  const Shares shares(conv.out, high, blocks.count());
#pragma omp parallel
  {
    const int64_t in_size = 4 * conv.in * row;
    Workspace workspace(in_size + 2 * conv.out * row + conv.in_width + 48);
    Panel inputs(workspace.take(in_size), in_size);
    float *outputs = workspace.take(2 * conv.out * row), *zeros = workspace.take(conv.in_width);
    std::fill(zeros, zeros + conv.in_width, 0.0f);
    shares.divide([&](int64_t number, int64_t begin, int64_t end) {
      const ImageBlock block = blocks.at(number);
      float* panel = inputs.for_images(block.count);
      lay_pairs(pairs, x + conv.in_place(block.first, block.group), block.count, zeros, panel);
      each_tile(pairs.places(block.count), [&](int64_t q, auto wide) {
        for (int64_t r = begin; r < end; r += high) {
          float* to = outputs + 2 * r * row + q;
          pairs_tile<high, wide()>(panel + q, row, offsets.data(), taps, weights.rows(block.group, r),
                                   finish.from(block.group * conv.out + r), to, to + row, 2 * row, end - r);
        }
      });
      for (int64_t r = begin; r < end; ++r) {
        take_pairs(pairs, outputs + 2 * r * row, block.count, branches.row(block, r), branches.image_step());
      }
    });
  }
}

// The convolution that computes the gradient of the inputs: inputs and outputs change places.
inline Convolution transposed(Convolution conv) {
  std::swap(conv.in, conv.out);
  return conv;
}

// dx of dy: the convolution of dy by the kernel that is transposed, and turned by half a circle.
template <int high>
void winograd_backward(const Convolution& conv, const float* dy, const float* weight, float* dx) {
  const int64_t taps = conv.taps(), out = conv.out;
  const auto turned = [=](int64_t g, int64_t c, int64_t k) {
    return weight[(g * out + k / 9) * taps + c * 9 + 8 - k % 9];
  };
  winograd_forward<high>(transposed(conv), dy, forward_weights(transposed(conv), turned), {}, {dx});
}

}  // namespace vargfacenet
