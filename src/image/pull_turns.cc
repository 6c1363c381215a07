#include "image/pull_turns.h"

#include <algorithm>

namespace hob::image {

PullTurns::Turn::Turn(PullTurns& turns, std::string registry, const Executor& executor)
    : turns_(turns), registry_(std::move(registry)), given_(executor) {
  Line& line = turns_.lines_[registry_];
  if (line.pulling < turns_.per_registry_) {
    ++line.pulling;
    given_.set();
  } else {
    line.waiting.push_back(&given_);
  }
}

PullTurns::Turn::~Turn() {
  const auto found = turns_.lines_.find(registry_);
  HOB_ASSERT(found != turns_.lines_.end());
  Line& line = found->second;
  if (!given_.is_set()) {
    std::erase(line.waiting, &given_);
  } else if (!line.waiting.empty()) {
    line.waiting.front()->set();  // ours is now theirs
    line.waiting.pop_front();
  } else if (--line.pulling == 0) {
    turns_.lines_.erase(found);
  }
}

}  // namespace hob::image
