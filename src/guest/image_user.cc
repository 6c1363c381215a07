#include "guest/image_user.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <optional>

namespace hob::guest {

namespace {

std::optional<uint32_t> number(std::string_view text) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> fields;
  while (true) {
    const size_t at = text.find(separator);
    fields.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return fields;
    text.remove_prefix(at + 1);
  }
}

// Calls `each` with the fields of every line that has at least `fields_min`, until it answers true.
void each_entry(std::string_view text, size_t fields_min,
                const std::function<bool(const std::vector<std::string_view>&)>& each) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.starts_with('#')) continue;
    const std::vector<std::string_view> fields = split(line, ':');
    if (fields.size() >= fields_min && each(fields)) return;
  }
}

struct PasswdEntry {
  std::string name{};
  uint32_t user = 0;
  uint32_t group = 0;
  std::string home{};
};

// By name first, then, for a number, by id: a user may be named "1000".
std::optional<PasswdEntry> find_user(std::string_view wanted, std::string_view passwd) {
  const std::optional<uint32_t> wanted_id = number(wanted);
  std::optional<PasswdEntry> by_id;
  std::optional<PasswdEntry> by_name;
  each_entry(passwd, 4, [&](const auto& fields) {
    const auto user = number(fields[2]);
    const auto group = number(fields[3]);
    if (!user || !group) return false;
    const bool named = fields[0] == wanted;
    if (!named && (by_id || user != wanted_id)) return false;
    PasswdEntry entry{.name = std::string(fields[0]), .user = *user, .group = *group};
    if (fields.size() > 5) entry.home = fields[5];
    (named ? by_name : by_id) = std::move(entry);
    return named;
  });
  return by_name ? by_name : by_id;
}

std::optional<uint32_t> find_group(std::string_view wanted, std::string_view group) {
  std::optional<uint32_t> found;
  each_entry(group, 3, [&](const auto& fields) {
    if (fields[0] == wanted) found = number(fields[2]);
    return found.has_value();
  });
  return found ? found : number(wanted);
}

std::vector<uint32_t> groups_listing(std::string_view member, std::string_view group) {
  std::vector<uint32_t> found;
  each_entry(group, 4, [&](const auto& fields) {
    const auto id = number(fields[2]);
    const std::vector<std::string_view> members = split(fields[3], ',');
    const bool listed = std::ranges::find(members, member) != members.end();
    if (id && *id < kUserIdsMax && listed) found.push_back(*id);
    return found.size() >= kGroupsMax;
  });
  std::ranges::sort(found);
  const auto repeated = std::ranges::unique(found);
  found.erase(repeated.begin(), repeated.end());
  return found;
}

}  // namespace

Result<ImageUser> resolve_user(std::string_view user, std::string_view passwd,
                               std::string_view group) {
  const size_t colon = user.find(':');
  const std::string_view wanted_user = user.substr(0, colon).empty() ? "0" : user.substr(0, colon);
  const std::string_view wanted_group =
      colon == std::string_view::npos ? "" : user.substr(colon + 1);

  ImageUser result;
  const std::optional<PasswdEntry> entry = find_user(wanted_user, passwd);
  if (entry) {
    result.user = entry->user;
    result.group = entry->group;
    if (!entry->home.empty()) result.home = entry->home;
  } else if (const auto id = number(wanted_user)) {
    result.user = *id;
    if (*id == 0) result.home = "/root";
  } else {
    return fail(Code::kInvalid, "unable to find user {}: no matching entries in passwd file",
                wanted_user);
  }
  if (!wanted_group.empty()) {
    const auto id = find_group(wanted_group, group);
    if (!id)
      return fail(Code::kInvalid, "unable to find group {}: no matching entries in group file",
                  wanted_group);
    result.group = *id;
  } else if (entry) {
    result.groups = groups_listing(entry->name, group);
  }
  if (result.user >= kUserIdsMax || result.group >= kUserIdsMax) {
    return fail(Code::kInvalid, "user {}:{} is beyond the {} ids that a task has", result.user,
                result.group, kUserIdsMax);
  }
  return result;
}

}  // namespace hob::guest
