// The loop around decide_staple: asks authorities about the certificates that edges may show, and
// writes what they say beside them. Belongs to control's loop.
#pragma once

#include <map>
#include <set>
#include <string>

#include "base/async.h"
#include "certify/fetch.h"
#include "certify/ocsp.h"
#include "store/store.h"

namespace hob::runner {

class StapleController {
 public:
  // All must outlive it.
  StapleController(store::Store& store, Executor executor, Clock& clock, certify::Fetcher& fetcher,
                   certify::Responders responders);
  void start();
  Async<> stop();

 private:
  Async<> work();
  Async<> process(std::string key);
  Async<Result<void>> step(std::string key, bool& again);
  Async<Result<void>> ask(std::string key, store::Entry entry, bool next);

  store::Store& store_;
  Clock& clock_;
  certify::Fetcher& fetcher_;
  const certify::Responders responders_;
  AsyncScope scope_;
  Event dirty_event_;
  std::set<std::string> dirty_;
  std::set<std::string> busy_;
  std::map<std::string, Instant> wake_at_;
};

}  // namespace hob::runner
