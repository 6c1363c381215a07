// The port through which runner has sources made into images: by some host, whose reports come back
// to Runner::build_reported.
#pragma once

#include <string>

#include "base/async.h"
#include "base/result.h"
#include "link/messages.h"

namespace hob::runner {

class Builders {
 public:
  virtual ~Builders() = default;
  // What the image of a service's build is called: an image identifier of our own registry.
  virtual std::string image_name(const std::string& service, const std::string& build) const = 0;
  // Some host builds that or goes on with it, and has been told what of its lines is kept; whoever
  // did it before is gone. Repeats do no harm. kUnavailable: there is no host; ask again.
  virtual Async<Result<void>> order(link::BuildOrder order) = 0;
  // Nobody waits for it any more; one that is not known is no error.
  virtual void end(const std::string& build) = 0;
};

}  // namespace hob::runner
