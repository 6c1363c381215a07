// What runner and cluster ask about images, answered from our registry's catalog and the logins to
// others.
//
// Belongs to control's loop.
#pragma once

#include <memory>
#include <string>

#include "base/async.h"
#include "identity/directory.h"
#include "image/catalog.h"
#include "link/messages.h"
#include "runner/images.h"
#include "store/cache.h"
#include "store/store.h"

namespace hob::daemon {

class RunnerImages final : public runner::Images {
 public:
  // All must outlive it.
  RunnerImages(store::Store& store, const Executor& executor, image::Catalog& catalog,
               const identity::Directory& directory, uint16_t api_port, std::string region);
  // Loads the logins.
  Async<> start();
  Async<> stop();

  Async<Result<runner::ResolvedImage>> resolve(std::string account,
                                               std::string identifier) override;
  Result<void> check(const std::string& identifier) const override;
  Result<std::string> at_digest(const std::string& identifier,
                                const std::string& digest) const override;
  bool is_ours(const std::string& identifier) const override;
  Async<Result<void>> changed() override;

  // The source with the user name and password to pull it with now.
  link::ImageSource with_credentials(const std::string& account, link::ImageSource source) const;

 private:
  image::Catalog& catalog_;
  const identity::Directory& directory_;
  uint16_t api_port_;
  std::string region_;
  std::string address_;  // our registry's, as hosts reach it
  store::Cache logins_;
  std::unique_ptr<store::Watch> tags_;  // from the first changed() on
};

}  // namespace hob::daemon
