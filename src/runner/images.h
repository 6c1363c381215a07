// The port through which runner learns what an image identifier means now.
#pragma once

#include <functional>
#include <string>

#include "base/async.h"
#include "base/result.h"
#include "link/messages.h"

namespace hob::runner {

struct ResolvedImage {
  link::ImageSource source{};  // its reference is a digest for images of our own registry
  std::string digest{};  // empty: another registry's tag, which the first task's host resolves
};

class Images {
 public:
  virtual ~Images() = default;
  // What `identifier` (as CreateService takes it) names for this account now. kInvalid: no image
  // identifier. kNotFound: ours, and not there. kUnavailable: ask again.
  virtual Async<Result<ResolvedImage>> resolve(std::string account, std::string identifier) = 0;
  // kInvalid, with the reason for people: `identifier` is no image identifier.
  virtual Result<void> check(const std::string& identifier) const = 0;
  // The identifier of the same repository's image of that digest, whatever its tags mean now.
  virtual Result<std::string> at_digest(const std::string& identifier,
                                        const std::string& digest) const = 0;
  // Whether `identifier` is of our registry: AWS turns automatic deployments on for those by
  // itself.
  virtual bool is_ours(const std::string& identifier) const = 0;
  // Waits until some tag of our registry may mean another image than before. Cancelled: loses
  // nothing.
  virtual Async<Result<void>> changed() = 0;
};

}  // namespace hob::runner
