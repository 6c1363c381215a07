#include "base/sealed.h"

#include <openssl/evp.h>

#include <memory>

#include "base/assert.h"
#include "base/digest.h"
#include "base/file.h"

namespace hob {

namespace {

constexpr size_t kNonceBytes = 12;
constexpr size_t kTagBytes = 16;
constexpr std::string_view kVersion1 = "1.";  // what the rest is sealed with

using Context = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;
Context make_context() { return {EVP_CIPHER_CTX_new(), &EVP_CIPHER_CTX_free}; }

const unsigned char* bytes(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}
unsigned char* bytes(std::string& text) { return reinterpret_cast<unsigned char*>(text.data()); }
int length(std::string_view text) { return static_cast<int>(text.size()); }

}  // namespace

Result<Secret<std::string>> load_or_make_sealing_key(const std::filesystem::path& path,
                                                     Random& random) {
  auto key = read_file(path, kSealingKeyBytes);
  if (key && key->size() == kSealingKeyBytes) return Secret<std::string>(std::move(*key));
  if (key || key.error().code == Code::kLimit)
    return fail(Code::kCorrupt, "{} is not the key that Hob wrote", path.string());
  if (key.error().code != Code::kNotFound) return fail(key.error());
  std::string fresh(kSealingKeyBytes, '\0');
  random.fill(fresh.data(), fresh.size());
  HOB_CHECK(write_file_durably(path, fresh, 0600));
  return Secret<std::string>(std::move(fresh));
}

std::string seal(const Secret<std::string>& key, Random& random, std::string_view place,
                 std::string_view secret) {
  HOB_ASSERT(key.reveal().size() == kSealingKeyBytes);
  std::string nonce(kNonceBytes, '\0');
  random.fill(nonce.data(), nonce.size());
  std::string sealed(secret.size(), '\0');
  std::string tag(kTagBytes, '\0');
  const Context context = make_context();
  int count = 0;
  HOB_ASSERT(EVP_EncryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, bytes(key.reveal()),
                                bytes(nonce)) == 1);
  HOB_ASSERT(EVP_EncryptUpdate(context.get(), nullptr, &count, bytes(place), length(place)) == 1);
  HOB_ASSERT(
      EVP_EncryptUpdate(context.get(), bytes(sealed), &count, bytes(secret), length(secret)) == 1);
  HOB_ASSERT(EVP_EncryptFinal_ex(context.get(), bytes(sealed) + count, &count) == 1);
  HOB_ASSERT(EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes, bytes(tag)) == 1);
  return std::string(kVersion1) + base64(nonce + sealed + tag);
}

Result<Secret<std::string>> open_sealed(const Secret<std::string>& key, std::string_view place,
                                        std::string_view sealed) {
  HOB_ASSERT(key.reveal().size() == kSealingKeyBytes);
  const auto broken = [] {
    return fail(Code::kCorrupt, "a secret was not sealed here: the instance's key is another");
  };
  if (!sealed.starts_with(kVersion1)) return broken();
  auto text = unbase64(sealed.substr(kVersion1.size()));
  if (!text || text->size() < kNonceBytes + kTagBytes) return broken();
  const std::string nonce = text->substr(0, kNonceBytes);
  std::string tag = text->substr(text->size() - kTagBytes);
  const std::string content = text->substr(kNonceBytes, text->size() - kNonceBytes - kTagBytes);
  std::string secret(content.size(), '\0');
  const Context context = make_context();
  int count = 0;
  const bool opened =
      EVP_DecryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, bytes(key.reveal()),
                         bytes(nonce)) == 1 &&
      EVP_DecryptUpdate(context.get(), nullptr, &count, bytes(place), length(place)) == 1 &&
      EVP_DecryptUpdate(context.get(), bytes(secret), &count, bytes(content), length(content)) ==
          1 &&
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, bytes(tag)) == 1 &&
      EVP_DecryptFinal_ex(context.get(), bytes(secret) + count, &count) == 1;
  if (!opened) return broken();
  return Secret<std::string>(std::move(secret));
}

}  // namespace hob
