#include "git/deploy_order.h"

#include <algorithm>
#include <boost/describe.hpp>

#include "base/record.h"
#include "git/push_hook.h"
#include "git/remote_path.h"

namespace hob::git {

BOOST_DESCRIBE_STRUCT(DeployOrder, (),
                      (service, commit, fetch_user, fetch_password, access_key, secret_key))

namespace {
// For an environment, and a line of git's.
bool is_word(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c > 0x20 && c < 0x7f; });
}
}  // namespace

std::string encode(const DeployOrder& order) { return record::encode(order); }

Result<DeployOrder> decode_deploy_order(std::string_view json) {
  if (json.size() > kDeployOrderBytesMax) return fail(Code::kInvalid, "the order is too long");
  HOB_TRY(DeployOrder order, record::decode<DeployOrder>(json));
  const bool right = is_service_name(order.service) && is_object_id(order.commit) &&
                     is_word(order.fetch_user) && is_word(order.fetch_password) &&
                     is_word(order.access_key) && is_word(order.secret_key);
  if (!right) return fail(Code::kInvalid, "the order is none of control's");
  return order;
}

}  // namespace hob::git
