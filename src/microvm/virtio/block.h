// A disk: a file of the host's (virtio 1.2, section 5.2).
//
// Requests are done one after the other, on the loop, with the file's own calls. A request that the
// guest made wrongly gets an error, one whose file fails gets VIRTIO_BLK_S_IOERR; neither changes
// anything else.
#pragma once

#include <sys/uio.h>

#include <array>
#include <boost/describe.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "microvm/virtio/device.h"

namespace hob::microvm {

inline constexpr uint32_t kSectorBytes = 512;
// Of one turn on the loop, and one request more.
inline constexpr uint64_t kTurnBytesMax = 16 << 20;
inline constexpr uint32_t kDiscardSectorsMax = 1 << 22;  // of one range: 2 GiB
inline constexpr uint32_t kDiscardRangesMax = 32;        // of one request

struct BlockOptions {
  std::string id{};  // what the guest's GET_ID answers, cut at 20 bytes
  bool read_only = false;
  bool flushes = false;  // the guest's flushes reach the disk (cache type Writeback)
};

// For snapshots.
struct BlockState {
  uint64_t sectors = 0;
};
BOOST_DESCRIBE_STRUCT(BlockState, (), (sectors))

class Block final : public VirtioDevice {
 public:
  // `file`'s size is cut down to whole sectors. kUnavailable: it cannot be looked at.
  static Result<std::unique_ptr<Block>> create(Fd file, BlockOptions options);

  uint32_t type() const override { return 2; }
  uint64_t features() const override;
  std::span<const uint16_t> queue_sizes() const override { return kQueueSizes; }
  void read_configuration(uint64_t offset, std::span<std::byte> data) override;
  void write_configuration(uint64_t, std::span<const std::byte>) override {}
  void activate(const Active& active) override;
  Progress notified(size_t index) override;
  void reset() override { active_.reset(); }
  Result<std::string> save() override;
  // kInvalid: the file is smaller than the disk was. A larger one stays of the old size.
  Result<void> restore(std::string_view state) override;

  struct Counts {
    uint64_t reads = 0, writes = 0, flushes = 0, discards = 0;
    uint64_t read_bytes = 0, write_bytes = 0;
    uint64_t failures = 0;
  };
  const Counts& counts() const { return counts_; }

 private:
  static constexpr std::array<uint16_t, 1> kQueueSizes = {kQueueSizeMax};
  Block(Fd file, BlockOptions options, uint64_t sectors)
      : file_(std::move(file)), options_(std::move(options)), sectors_(sectors) {}
  // How many bytes of the writable part were written, the status among them.
  uint32_t serve(GuestMemory& memory, const Chain& chain);
  uint8_t request(GuestMemory& memory, const Chain& chain, uint32_t& written);
  uint8_t transfer(GuestMemory& memory, std::span<const Segment> data, uint64_t bytes,
                   uint64_t sector, bool to_guest);
  uint8_t discard(GuestMemory& memory, const Chain& chain);

  Fd file_;
  BlockOptions options_;
  uint64_t sectors_;
  std::optional<Active> active_;
  Chain chain_;
  std::vector<iovec> vectors_;
  Counts counts_;
};

}  // namespace hob::microvm
