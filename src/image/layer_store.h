// The unpacked layers of a host, by diff id: each is there whole or not at all.
//
// A layer is unpacked in tmp/ and renamed into place, so kill -9 leaves no half of one. It is
// flushed to the disk in the background and then marked; after a boot (so, maybe, a power cut)
// layers without the mark are removed, since pulling again is cheaper than waiting for the disk at
// every start. Blocks; any thread.
#pragma once

#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"

namespace hob::image {

class LayerStore {
 public:
  explicit LayerStore(std::filesystem::path directory) : directory_(std::move(directory)) {}

  // Makes the directories, empties tmp/, removes what a power cut may have damaged.
  Result<void> open();
  std::filesystem::path path(const std::string& diff_id) const;
  bool has(const std::string& diff_id) const;
  // A fresh empty directory in tmp/.
  Result<std::filesystem::path> make_temporary();
  // Renames a temporary into place; if the layer is there by now, removes the temporary.
  Result<void> place(const std::filesystem::path& temporary, const std::string& diff_id);
  // Flushes and marks a layer; best effort.
  void make_durable(const std::string& diff_id);
  // Held shared while it is looked up what is here, and alone by who removes: so nobody counts on
  // what is about to go.
  std::shared_mutex& pruning() { return pruning_; }
  // Takes the layers that are not in `keep` and not in use out of their place; what it returns is
  // to be removed, at leisure. The caller holds pruning() alone.
  Result<std::vector<std::filesystem::path>> take_others(const std::set<std::string>& keep);

  // While held, take_others() leaves the layers alone. Made under no lock.
  class Use {
   public:
    Use(LayerStore& store, std::vector<std::string> diff_ids);
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    LayerStore& store_;
    std::vector<std::string> diff_ids_;
  };
  // The right to unpack a layer; waits while another thread has it.
  class Claim {
   public:
    Claim(LayerStore& store, std::string diff_id);
    ~Claim();
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;

   private:
    LayerStore& store_;
    std::string diff_id_;
  };

 private:
  std::filesystem::path mark(const std::string& diff_id) const;

  const std::filesystem::path directory_;
  std::shared_mutex pruning_;
  std::mutex mutex_;  // the four below
  std::condition_variable released_;
  std::set<std::string> claimed_;
  std::map<std::string, int> used_;
  uint64_t temporaries_ = 0;
};

}  // namespace hob::image
