// Links between simulated processes: what link::Session promises (ordered, nothing lost but with
// the link itself), over a network that delays, falls silent and breaks.
//
// One loop.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/async.h"
#include "link/link.h"
#include "sim/seeded_random.h"

namespace hob::sim {

class Network {
 public:
  Network(const Executor& executor, SeededRandom& random) : executor_(executor), random_(random) {}

  struct Pair {
    std::shared_ptr<link::Session> near{};  // of who connects
    std::shared_ptr<link::Session> far{};
  };
  // `uid`: of the near end, as the far one sees it. kUnavailable: no way there now.
  Result<Pair> connect(const std::string& near, const std::string& far, uid_t uid);
  // Nothing gets from one to the other; links between them end after link::kSilenceMax.
  void part(const std::string& one, const std::string& other);
  void mend(const std::string& one, const std::string& other);
  void mend_all();
  bool parted(const std::string& one, const std::string& other) const;
  // When they were last mended; 0: never.
  int64_t mended_us(const std::string& one, const std::string& other) const;
  // Every link between them ends now, with what was on its way.
  void cut(const std::string& one, const std::string& other);
  void set_delay_max(int milliseconds) { delay_ms_max_ = milliseconds; }

  struct Wire;

 private:
  static std::pair<std::string, std::string> ends(std::string one, std::string other);
  Executor executor_;
  SeededRandom& random_;
  int delay_ms_max_ = 1;
  std::set<std::pair<std::string, std::string>> parted_;
  std::map<std::pair<std::string, std::string>, int64_t> mended_us_;
  std::vector<std::pair<std::pair<std::string, std::string>, std::weak_ptr<Wire>>> wires_;
};

}  // namespace hob::sim
