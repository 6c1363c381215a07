#include "builder/line_cutter.h"

#include <fmt/core.h>

#include <utility>

#include "builder/build_sandbox.h"

namespace hob::builder {

namespace {

constexpr size_t kMarkBytesMax = 24;  // behind what is always told

}  // namespace

LineCutter::LineCutter(uint64_t bytes_max, std::string always,
                       std::function<void(std::string_view)> line)
    : bytes_max_(bytes_max), always_(std::move(always)), line_(std::move(line)) {}

void LineCutter::feed(std::string_view bytes) {
  for (const char c : bytes) {
    if (c == '\n') {
      emit();
      returned_ = false;
    } else if (c == '\r') {
      returned_ = true;
    } else {
      // A progress line that writes over itself: what it says last counts.
      if (std::exchange(returned_, false)) partial_.clear();
      const auto byte = static_cast<unsigned char>(c);
      partial_ += (byte < ' ' && c != '\t') || byte == 0x7f ? '?' : c;
      if (partial_.size() >= kLogLineBytesMax) emit();
    }
  }
}

void LineCutter::emit() {
  if (!always_.empty() && partial_.size() < always_.size() + kMarkBytesMax &&
      partial_.starts_with(always_)) {
    line_(partial_);
  } else if (bytes_ + partial_.size() > bytes_max_) {
    left_out_ += partial_.size() + 1;
  } else {
    bytes_ += partial_.size() + 1;
    line_(partial_);
  }
  partial_.clear();
}

void LineCutter::finish() {
  if (!partial_.empty()) emit();
  if (left_out_ > 0) line_(fmt::format("… {} bytes more were left out", left_out_));
}

}  // namespace hob::builder
