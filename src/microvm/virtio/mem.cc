#include "microvm/virtio/mem.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "microvm/virtio/segments.h"

namespace hob::microvm {
namespace {

// What is not plugged must not be touched, not even to be read (5.15.3).
constexpr uint64_t kUnpluggedInaccessible = 1 << 1;

// 5.15.4
struct Configuration {
  uint64_t block_size = 0;
  uint16_t node = 0;
  uint8_t padding[6] = {};
  uint64_t address = 0;
  uint64_t region_size = 0;
  uint64_t usable_region_size = 0;
  uint64_t plugged_size = 0;
  uint64_t requested_size = 0;
};
static_assert(sizeof(Configuration) == 56);

// 5.15.6
enum : uint16_t { kPlug = 0, kUnplug = 1, kUnplugAll = 2, kState = 3 };
enum : uint16_t { kAck = 0, kNack = 1, kBusy = 2, kError = 3 };
enum : uint16_t { kPlugged = 0, kUnplugged = 1, kMixed = 2 };

struct [[gnu::packed]] Answer {
  uint16_t type = kError;
  uint16_t padding[3] = {};
  uint16_t state = 0;
};
static_assert(sizeof(Answer) == 10);

constexpr int kTurnRequests = 16;

}  // namespace

struct Mem::Request {
  uint16_t type = 0;
  uint16_t padding[3] = {};
  uint64_t address = 0;
  uint16_t count = 0;
  uint16_t more_padding[3] = {};
};

Mem::Mem(const MemOptions& options, Changer changer)
    : options_(options), changer_(std::move(changer)), blocks_(options.total / options.block) {
  static_assert(sizeof(Request) == 24);
}

uint64_t Mem::features() const {
  return kFeatureVersion1 | kFeatureEventIndex | kUnpluggedInaccessible;
}

void Mem::read_configuration(uint64_t offset, std::span<std::byte> data) {
  const Configuration configuration{.block_size = options_.block,
                                    .address = options_.start,
                                    .region_size = options_.total,
                                    .usable_region_size = options_.total,
                                    .plugged_size = plugged_,
                                    .requested_size = requested_};
  const auto bytes = std::as_bytes(std::span(&configuration, 1));
  for (size_t i = 0; i < data.size(); ++i)
    data[i] = offset + i < bytes.size() ? bytes[offset + i] : std::byte{0};
}

void Mem::request(uint64_t bytes) {
  HOB_ASSERT(bytes <= options_.total && bytes % options_.block == 0);
  requested_ = bytes;
  if (active_) active_->interrupt.configuration_changed();
}

VirtioDevice::Progress Mem::notified(size_t) {
  Queue& queue = active_->queues[0];
  if (!queue.ready) return Progress::kDone;
  return take_turn(
      *active_, queue, chain_, {.requests = kTurnRequests, .bytes = UINT64_MAX},
      [] { return true; },
      [&](const Chain& chain) -> std::optional<uint32_t> { return serve(chain); });
}

uint32_t Mem::serve(const Chain& chain) {
  Request request;
  Answer answer;
  const bool whole =
      copy_in(active_->memory, chain.readable, 0, std::as_writable_bytes(std::span(&request, 1)));
  if (!whole || chain.writable_bytes < sizeof answer) {
    ++counts_.refused;
    return 0;
  }
  const auto blocks = blocks_of(request);
  switch (request.type) {
    case kPlug:
      ++counts_.plugs;
      if (blocks) answer.type = change(*blocks, Change::kPlug);
      break;
    case kUnplug:
      ++counts_.unplugs;
      if (blocks) answer.type = change(*blocks, Change::kUnplug);
      break;
    case kUnplugAll:
      ++counts_.unplugs_of_all;
      answer.type = unplug_all();
      break;
    case kState:
      ++counts_.looks;
      if (!blocks) break;
      answer.type = kAck;
      answer.state = all(*blocks, true) ? kPlugged : all(*blocks, false) ? kUnplugged : kMixed;
      break;
    default:
      break;
  }
  if (answer.type != kAck) ++counts_.refused;
  copy_out(active_->memory, chain.writable, 0, std::as_bytes(std::span(&answer, 1)));
  return sizeof answer;
}

std::optional<Mem::Blocks> Mem::blocks_of(const Request& request) const {
  if (request.count == 0 || request.address < options_.start) return std::nullopt;
  const uint64_t offset = request.address - options_.start;
  if (offset % options_.block != 0) return std::nullopt;
  const uint64_t first = offset / options_.block;
  if (first >= blocks_.size() || request.count > blocks_.size() - first) return std::nullopt;
  return Blocks{.first = first, .count = request.count};
}

bool Mem::all(const Blocks& blocks, bool plugged) const {
  const auto first = blocks_.begin() + static_cast<std::ptrdiff_t>(blocks.first);
  return std::all_of(first, first + static_cast<std::ptrdiff_t>(blocks.count),
                     [&](bool block) { return block == plugged; });
}

uint16_t Mem::change(const Blocks& blocks, Change change) {
  const bool plug = change == Change::kPlug;
  // All of them are as it believes, or nothing is done (5.15.6.2, 5.15.6.3).
  if (!all(blocks, !plug)) return kError;
  const uint64_t bytes = blocks.count * options_.block;
  if (plug && bytes > requested_ - std::min(requested_, plugged_)) return kNack;
  if (!changer_(change, options_.start + blocks.first * options_.block, bytes)) return kBusy;
  const auto first = blocks_.begin() + static_cast<std::ptrdiff_t>(blocks.first);
  std::fill(first, first + static_cast<std::ptrdiff_t>(blocks.count), plug);
  plugged_ = plug ? plugged_ + bytes : plugged_ - bytes;
  return kAck;
}

uint16_t Mem::unplug_all() {
  for (size_t i = 0; i < blocks_.size();) {
    size_t end = i;
    while (end < blocks_.size() && blocks_[end]) ++end;
    if (end > i && change({.first = i, .count = end - i}, Change::kUnplug) != kAck) return kBusy;
    i = end + 1;
  }
  return kAck;
}

}  // namespace hob::microvm
