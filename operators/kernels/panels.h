// Copies of images into and out of the panels that `product.h` works on.
//
// A panel holds some images of one group of channels. With stride s, an image and its padding are divided into
// s x s planes, by row and column modulo s, so that neighbours in a plane belong to neighbouring outputs. All planes, and
// the outputs, have `height` rows of `pitch` numbers. Rows share the padding between them, and so do images.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "product.h"
#include "rows.h"

namespace vargfacenet {

constexpr int64_t kCached = 48 << 10;  // numbers that stay in the second-level cache

struct Halves {
  float *first, *second;  // where the first number of a row goes, and the third and so on; the second, the fourth...
};

struct Convolution {
  int64_t batch, in, out;                  // images, channels of a group
  int64_t groups, kernel, stride, pad;
  int64_t in_height, in_width, out_height, out_width;

  int64_t phases() const { return stride * stride; }
  int64_t taps() const { return in * kernel * kernel; }
  int64_t reach() const { return (kernel - 1) / stride; }  // rows or columns of a plane by which taps exceed an output
  int64_t shared() const { return stride == 1 ? pad : 0; }
  int64_t pitch() const { return out_width + reach() - shared(); }
  int64_t height() const { return out_height + reach() - shared(); }
  int64_t image() const { return pitch() * height(); }
  // Zeros before and after a row of a panel.
  int64_t margin() const { return aligned(reach() * (pitch() + 1)); }

  // Images that are processed together: their panels should stay in a core's cache.
  int64_t together() const {
    const int64_t cached = kCached / ((in * phases() + out) * image()), worthwhile = 256 / image();
    return std::min(batch, std::max<int64_t>({1, cached, worthwhile}));
  }
  int64_t length() const { return together() * image(); }
  // Places of so many images up to the last output: the padding after it, an eighth of an image of 7x7, needs no sums.
  int64_t places(int64_t count) const { return (count - 1) * image() + (out_height - 1) * pitch() + out_width; }
  // Length of a panel's row: an odd multiple of a cache line, so that rows do not map to the same places of a cache.
  int64_t row() const {
    return (aligned(2 * margin() + length() + kSlack) / 16 | 1) * 16;
  }

  // With stride 2, the place of row `y` of an image in the planes that begin at `planes`.
  Halves halves(float* planes, int64_t y) const {
    float* even = planes + (y + pad) % 2 * 2 * row() + (y + pad) / 2 * pitch();
    const auto part = [&](int64_t x) { return even + (x + pad) % 2 * row() + (x + pad) / 2; };
    return {part(0), part(1)};
  }

  // First number of a group's channels in inputs and outputs.
  int64_t in_place(int64_t sample, int64_t group) const {
    return (sample * groups + group) * in * in_height * in_width;
  }
  int64_t out_place(int64_t sample, int64_t group) const {
    return (sample * groups + group) * out * out_height * out_width;
  }

  static int64_t aligned(int64_t count) { return (count + 15) / 16 * 16; }
};

// The images `first` and so on of one group of channels.
struct ImageBlock {
  int64_t group, first, count;
};

// The blocks of a forward pass, of `together` images each.
struct ImageBlocks {
  const Convolution& conv;
  int64_t together;

  int64_t count() const { return (conv.batch + together - 1) / together * conv.groups; }
  ImageBlock at(int64_t number) const {
    const int64_t first = number / conv.groups * together;
    return {number % conv.groups, first, std::min(together, conv.batch - first)};
  }
};

// Outputs of several convolutions of one input, which are computed as one (see conv.h).
struct Branches {
  const Convolution& conv;
  const std::vector<float*>& ys;

  int64_t plane() const { return conv.out_height * conv.out_width; }
  int64_t out() const { return conv.out / static_cast<int64_t>(ys.size()); }
  int64_t image_step() const { return conv.groups * out() * plane(); }
  // Where output `r` of a block's group belongs in its first image.
  float* row(const ImageBlock& block, int64_t r) const {
    return ys[r / out()] + block.first * image_step() + (block.group * out() + r % out()) * plane();
  }
};

// Aligned memory of a thread, reused by later calls.
class Workspace {
 public:
  explicit Workspace(int64_t count) {
    if (static_cast<int64_t>(memory().size()) < count + 16) memory().resize(count + 16);
    const auto address = reinterpret_cast<uintptr_t>(memory().data());
    next_ = memory().data() + (64 - address % 64) % 64 / sizeof(float);
  }
  float* take(int64_t count) {
    float* taken = next_;
    next_ += Convolution::aligned(count);
    return taken;
  }

 private:
  static std::vector<float>& memory() {
    static thread_local std::vector<float> kept;
    return kept;
  }
  float* next_;
};

// Offset of the plane of a tap from that of an output, in a panel of inputs.
inline std::vector<int64_t> tap_offsets(const Convolution& conv) {
  std::vector<int64_t> offsets;
  for (int64_t c = 0; c < conv.in; ++c) {
    for (int64_t y = 0; y < conv.kernel; ++y) {
      for (int64_t x = 0; x < conv.kernel; ++x) {
        const int64_t plane = (c * conv.stride + y % conv.stride) * conv.stride + x % conv.stride;
        offsets.push_back(plane * conv.row() + y / conv.stride * conv.pitch() + x / conv.stride);
      }
    }
  }
  return offsets;
}

// A panel of `rows` whose padding is zero. Images leave the padding as it is, so that it is filled once for all blocks of
// as many images.
class Panel {
 public:
  Panel(float* numbers, int64_t size) : numbers_(numbers), size_(size) {}
  float* for_images(int64_t count) {
    if (count != count_) std::fill(numbers_, numbers_ + size_, 0.0f);
    count_ = count;
    return numbers_;
  }

 private:
  float* numbers_;
  int64_t size_, count_ = -1;
};

// Inputs (count, groups * in, in_height, in_width) of one group into a panel.
inline void lay_inputs(const Convolution& conv, const float* x, int64_t count, float* panel) {
  const int64_t plane = conv.in_height * conv.in_width;
  for (int64_t c = 0; c < conv.in; ++c) {
    for (int64_t n = 0; n < count; ++n) {
      const float* image = x + (n * conv.groups * conv.in + c) * plane;
      float* to = panel + c * conv.phases() * conv.row() + conv.margin() + n * conv.image();
      if (conv.stride == 1) {
        copy_rows(image, conv.in_width, to + conv.pad * (conv.pitch() + 1), conv.pitch(), conv.in_height, conv.in_width);
        continue;
      }
      for (int64_t y = 0; y < conv.in_height; ++y) {
        const Halves row = conv.halves(to, y);
        split_row(image + y * conv.in_width, row.first, row.second, conv.in_width);
      }
    }
  }
}

// Gradients of the inputs out of a panel: the reverse.
inline void take_inputs(const Convolution& conv, float* panel, int64_t count, float* dx) {
  const int64_t plane = conv.in_height * conv.in_width;
  for (int64_t c = 0; c < conv.in; ++c) {
    for (int64_t n = 0; n < count; ++n) {
      float* image = dx + (n * conv.groups * conv.in + c) * plane;
      float* from = panel + c * conv.phases() * conv.row() + conv.margin() + n * conv.image();
      if (conv.stride == 1) {
        const float* first = from + conv.pad * (conv.pitch() + 1);
        copy_rows(first, conv.pitch(), image, conv.in_width, conv.in_height, conv.in_width);
        continue;
      }
      for (int64_t y = 0; y < conv.in_height; ++y) {
        const Halves row = conv.halves(from, y);
        join_row(row.first, row.second, image + y * conv.in_width, conv.in_width);
      }
    }
  }
}

// Gradients of the outputs (count, groups * out, out_height, out_width) of one group into a panel.
inline void lay_outputs(const Convolution& conv, const float* dy, int64_t count, float* panel) {
  for (int64_t c = 0; c < conv.out; ++c) {
    for (int64_t n = 0; n < count; ++n) {
      const float* image = dy + (n * conv.groups * conv.out + c) * conv.out_height * conv.out_width;
      float* to = panel + c * conv.row() + conv.margin() + n * conv.image();
      copy_rows(image, conv.out_width, to, conv.pitch(), conv.out_height, conv.out_width);
    }
  }
}

// One channel of outputs out of a row of a panel, into images of which the next is `image_step` numbers away.
inline void take_output(const Convolution& conv, const float* row, int64_t count, float* y, int64_t image_step) {
  for (int64_t n = 0; n < count; ++n) {
    copy_rows(row + conv.margin() + n * conv.image(), conv.pitch(), y + n * image_step, conv.out_width, conv.out_height,
              conv.out_width);
  }
}

}  // namespace vargfacenet
