// What an image identifier means, for control: tags to digests in our registry, and logins to
// others.
//
// Belongs to control's loop.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/async.h"
#include "base/result.h"
#include "image/records.h"
#include "store/store.h"

namespace hob::image {

class Catalog {
 public:
  // The store must outlive it.
  explicit Catalog(store::Store& store) : store_(store) {}

  // The digest that a tag, or a digest, means in a repository of ours. kNotFound: the repository or
  // image is not there.
  Async<Result<std::string>> resolve(std::string account, std::string repository,
                                     std::string reference);
  // Every change of a tag, in any repository of any account, from now on (keys.h: kTagsPrefix).
  Async<Result<std::unique_ptr<store::Watch>>> watch_tags();

  Async<Result<void>> put_login(std::string account, LoginRecord login);
  // kNotFound: there is none.
  Async<Result<void>> remove_login(std::string account, std::string registry);
  Async<Result<std::optional<LoginRecord>>> login(std::string account, std::string registry);
  Async<Result<std::vector<LoginRecord>>> logins(std::string account);

 private:
  store::Store& store_;
};

}  // namespace hob::image
