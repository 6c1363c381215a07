#include "cli/instance.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <cerrno>

#include "base/ids.h"

namespace hob::cli {
namespace {

namespace json = boost::json;

constexpr size_t kFileBytesMax = 64 * 1024;
constexpr size_t kRunPathBytesMax = 107 - sizeof "/supervisor.sock";  // sun_path

Result<json::object> read_object(const std::filesystem::path& path) {
  HOB_TRY(std::string text, read_file(path, kFileBytesMax));
  boost::system::error_code error;
  json::value value = json::parse(text, error);
  if (error || !value.is_object())
    return fail(Code::kCorrupt, "{} is not what hob wrote", path.string());
  return value.as_object();
}

std::string text_of(const json::object& object, std::string_view key, std::string otherwise) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->as_string()) : otherwise;
}

uint16_t port_of(const json::object& object, std::string_view key, uint16_t otherwise) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr || !value->is_int64() || value->as_int64() < 1 || value->as_int64() > 65535)
    return otherwise;
  return static_cast<uint16_t>(value->as_int64());
}

double number_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr || !value->is_number()) return 0;
  return value->to_number<double>();
}

Result<void> make_owned(const std::filesystem::path& path, unsigned mode, uid_t owner) {
  HOB_CHECK(make_directories(path, mode));
  if (chown(path.c_str(), owner, owner) != 0)
    return fail_errno(errno, "giving " + path.string() + " its owner");
  if (chmod(path.c_str(), mode) != 0)
    return fail_errno(errno, "setting the mode of " + path.string());
  return {};
}

std::filesystem::path lock_path(const Instance& instance) {
  return instance.run() / "supervisor.lock";
}

}  // namespace

Result<Instance> load_instance(const std::filesystem::path& data) {
  HOB_TRY(const json::object object, read_object(data / "instance.json"));
  Instance instance;
  instance.data = data;
  instance.id = text_of(object, "id", "");
  instance.region = text_of(object, "region", instance.region);
  instance.api_port = port_of(object, "apiPort", instance.api_port);
  instance.http_port = port_of(object, "httpPort", instance.http_port);
  instance.https_port = port_of(object, "httpsPort", instance.https_port);
  const json::value* is_public = object.if_contains("public");
  instance.is_public = is_public != nullptr && is_public->is_bool() && is_public->as_bool();
  instance.store = text_of(object, "store", instance.store);
  instance.isolation = text_of(object, "isolation", "");
  instance.cpu_overcommit = number_of(object, "cpuOvercommit");
  instance.memory_overcommit = number_of(object, "memoryOvercommit");
  instance.acme_directory = text_of(object, "acmeDirectory", "");
  instance.acme_contact = text_of(object, "acmeContact", "");
  instance.acme_eab_kid = text_of(object, "acmeEabKid", "");
  instance.acme_challenge = text_of(object, "acmeChallenge", "");
  instance.resolver = text_of(object, "resolver", "");
  instance.ocsp_responders = text_of(object, "ocspResponders", "");
  const json::value* acme_ca = object.if_contains("acmeCa");
  instance.acme_ca = acme_ca != nullptr && acme_ca->is_bool() && acme_ca->as_bool();
  if (instance.id.size() != 6 ||
      instance.id.find_first_not_of("0123456789abcdef") != std::string::npos) {
    return fail(Code::kCorrupt, "{} names no instance", (data / "instance.json").string());
  }
  return instance;
}

Result<void> save_instance(const Instance& instance) {
  const json::object object = {
      {"id", instance.id},
      {"region", instance.region},
      {"apiPort", instance.api_port},
      {"httpPort", instance.http_port},
      {"httpsPort", instance.https_port},
      {"public", instance.is_public},
      {"store", instance.store},
      {"isolation", instance.isolation},
      {"cpuOvercommit", instance.cpu_overcommit},
      {"memoryOvercommit", instance.memory_overcommit},
      {"acmeDirectory", instance.acme_directory},
      {"acmeContact", instance.acme_contact},
      {"acmeCa", instance.acme_ca},
      {"acmeEabKid", instance.acme_eab_kid},
      {"acmeChallenge", instance.acme_challenge},
      {"resolver", instance.resolver},
      {"ocspResponders", instance.ocsp_responders},
  };
  return write_file_durably(instance.data / "instance.json", json::serialize(object) + "\n", 0644);
}

Result<Credentials> load_credentials(const Instance& instance) {
  const std::filesystem::path path = instance.data / "credentials.json";
  if (access(path.c_str(), R_OK) != 0 && errno == EACCES) {
    return fail(Code::kDenied, "only root may read {}; run hob as root (sudo)", path.string());
  }
  HOB_TRY(const json::object object, read_object(path));
  return Credentials{.account = text_of(object, "account", kFirstAccount),
                     .access_key = text_of(object, "accessKeyId", ""),
                     .secret_key = text_of(object, "secretAccessKey", "")};
}

namespace {

// The daemons' users must be able to reach what is theirs in it.
Result<void> check_place(const Instance& instance) {
  if (instance.run().string().size() > kRunPathBytesMax) {
    return fail(Code::kInvalid, "--data {} is too long for a socket's path; at most {} bytes",
                instance.data.string(), kRunPathBytesMax - 4);
  }
  for (std::filesystem::path above = instance.data.parent_path(); above != above.root_path();
       above = above.parent_path()) {
    struct stat status {};
    if (stat(above.c_str(), &status) == 0 && (status.st_mode & S_IXOTH) == 0) {
      return fail(Code::kDenied,
                  "{} is closed to other users, and Hob's daemons run as users of their own; "
                  "choose another --data",
                  above.string());
    }
  }
  return {};
}

}  // namespace

Result<void> write_owned(const std::filesystem::path& path, std::string_view text, uid_t owner) {
  std::filesystem::path fresh = path;
  fresh.replace_extension(".new");
  HOB_CHECK(write_file_durably(fresh, text, 0400));
  // The owner is right before the name is.
  if (chown(fresh.c_str(), owner, owner) != 0)
    return fail_errno(errno, "giving " + fresh.string() + " its owner");
  if (rename(fresh.c_str(), path.c_str()) != 0)
    return fail_errno(errno, "renaming " + fresh.string());
  return sync_directory(path.parent_path());
}

Result<void> prepare_data(const Instance& instance) {
  HOB_CHECK(check_place(instance));
  HOB_CHECK(make_owned(instance.data, 0711, 0));
  HOB_CHECK(make_owned(instance.data / "control", 0700, kControlUid));
  HOB_CHECK(make_owned(instance.data / "edge", 0700, kEdgeUid));
  HOB_CHECK(make_owned(instance.data / "host", 0700, 0));
  HOB_CHECK(make_owned(instance.data / "log", 0700, 0));
  HOB_CHECK(make_owned(instance.run(), 0755, 0));
  const std::filesystem::path path = instance.data / "credentials.json";
  if (std::filesystem::exists(path)) return {};
  SystemRandom random;
  const json::object object = {
      {"account", kFirstAccount},
      {"accessKeyId", "AKIA" + random_word(random, 16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")},
      {"secretAccessKey",
       random_word(random, 40, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")},
  };
  return write_file_durably(path, json::serialize(object) + "\n", 0600);
}

std::string new_instance_id() {
  SystemRandom random;
  return random_hex(random, 6);
}

Result<Fd> lock_instance(const Instance& instance) {
  Fd fd(open(lock_path(instance).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd) return fail_errno(errno, "opening " + lock_path(instance).string());
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    return fail(Code::kExists, "Hob is running with {}", instance.data.string());
  }
  return fd;
}

bool is_running(const Instance& instance) {
  const Fd fd(open(lock_path(instance).c_str(), O_RDWR | O_CLOEXEC));
  return fd && flock(fd.get(), LOCK_EX | LOCK_NB) != 0;
}

}  // namespace hob::cli
