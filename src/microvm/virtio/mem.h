// Memory that comes and goes while the guest runs (virtio 1.2, section 5.15): a range of its
// addresses, in blocks, of which it plugs in as many as it is asked to have, and gives back.
//
// What is not plugged is no memory: neither the guest nor a device of ours reaches it, and the host
// keeps nothing for it.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"
#include "microvm/memory/guest_memory.h"
#include "microvm/virtio/device.h"

namespace hob::microvm {

// As it is asked for, all in MiB.
struct HotPlugOptions {
  uint64_t total = 0;   // a multiple of `slot`
  uint64_t slot = 128;  // what KVM is told of at once; a multiple of `block`
  uint64_t block = 2;   // a power of 2
};

struct MemOptions {
  GuestAddress start = 0;    // of the range
  uint64_t total = 0;        // bytes, a multiple of `block`
  uint64_t block = 2 << 20;  // a power of 2
};

class Mem final : public VirtioDevice {
 public:
  // Makes a range of whole blocks memory, or takes it away. False: the host has not got it; nothing
  // has changed. Called with the device's lock held, from the loop.
  enum class Change { kPlug, kUnplug };
  using Changer = std::function<bool(Change change, GuestAddress start, uint64_t bytes)>;

  Mem(const MemOptions& options, Changer changer);

  uint32_t type() const override { return 24; }
  uint64_t features() const override;
  std::span<const uint16_t> queue_sizes() const override { return kQueueSizes; }
  void read_configuration(uint64_t offset, std::span<std::byte> data) override;
  void write_configuration(uint64_t, std::span<const std::byte>) override {}
  void activate(const Active& active) override { active_.emplace(active); }
  Progress notified(size_t index) override;
  void reset() override { active_.reset(); }

  // With the device held. How much the guest shall have, at most `total`; it is told, and takes its
  // time.
  void request(uint64_t bytes);
  uint64_t requested() const { return requested_; }
  uint64_t plugged() const { return plugged_; }
  struct Counts {
    uint64_t plugs = 0, unplugs = 0, unplugs_of_all = 0, looks = 0, refused = 0;
  };
  const Counts& counts() const { return counts_; }

 private:
  static constexpr std::array<uint16_t, 1> kQueueSizes = {kQueueSizeMax};
  struct Request;
  struct Blocks {
    size_t first = 0, count = 0;
  };
  uint32_t serve(const Chain& chain);
  // nullopt: they are not all in the range.
  std::optional<Blocks> blocks_of(const Request& request) const;
  bool all(const Blocks& blocks, bool plugged) const;
  uint16_t change(const Blocks& blocks, Change change);
  uint16_t unplug_all();

  const MemOptions options_;
  const Changer changer_;
  std::vector<bool> blocks_;  // plugged
  uint64_t plugged_ = 0;
  uint64_t requested_ = 0;
  std::optional<Active> active_;
  Chain chain_;
  Counts counts_;
};

}  // namespace hob::microvm
