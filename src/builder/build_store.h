// What builds made and may use again, on one machine: layers, packed and unpacked, by what they
// were made from.
//
// Under its directory (0700 root): blobs/HEX (compressed layers), trees/HEX (unpacked, by diff id),
// keys/HEX (which layer a key made; its time is when it was last asked for), whole/HEX (in which
// run of the machine a layer was last known to be whole), tmp/, lock (shared by all that have the
// store open). Everything is there whole or not at all, also after kill -9; several processes may
// use one store. Nothing waits for the disk: what a power cut may have spoiled is seen, and made
// again from the compressed file where that is whole, the first time it is asked for after a start
// of the machine. Blocking; any thread.
#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/result.h"
#include "base/time.h"
#include "builder/layer.h"

namespace hob::builder {

// Packed and unpacked, of all layers. A build may go beyond it; the next one that is alone with the
// store takes away what was not asked for longest.
inline constexpr uint64_t kStoreBytesMax = 20ULL << 30;
// What no key leads to any more, an older cache for one, stays so long at most, if there are
// builds: removing files costs more than a build of nothing new.
inline constexpr Duration kPruneEvery{5 * 60 * 1000};

class BuildStore {
 public:
  // `boot`: names this run of the machine; empty: the kernel's name for it.
  struct Options {
    uint64_t bytes_max = kStoreBytesMax;
    Duration prune_every = kPruneEvery;
    std::string boot{};
  };
  // Makes what is missing. Once in a process, before temporary().
  static Result<BuildStore> open(std::filesystem::path directory, Options options);
  static Result<BuildStore> open(std::filesystem::path directory) {
    return open(std::move(directory), Options());
  }

  // A path for a file or folder of this process, removed by the next open() after its end.
  std::filesystem::path temporary(std::string_view name) const;
  // What a key ("what it was made from", any text) made; nullopt: nothing that is here whole.
  std::optional<Layer> find(std::string_view key) const;
  // Takes over the compressed file of a layer, unpacks it and remembers what it was made from.
  // kCorrupt: it is no layer.
  Result<void> put(std::string_view key, const Layer& layer,
                   const std::filesystem::path& compressed) const;
  // What the key made is found no more.
  void forget(std::string_view key) const;
  std::filesystem::path tree(const Layer& layer) const;
  std::filesystem::path blob(const Layer& layer) const;

 private:
  explicit BuildStore(std::filesystem::path directory) : directory_(std::move(directory)) {}
  void clear_temporaries() const;
  Result<void> check_whole(const Layer& layer) const;
  Result<void> unpack(const Layer& layer, const std::filesystem::path& to) const;
  Result<void> prune(const Options& options) const;
  void remove_unless(const char* kind, const std::set<std::string>& names) const;
  std::filesystem::path directory_;
  std::string boot_;
  Fd lock_;
};

}  // namespace hob::builder
