#ifndef TIERCEL_TESTS_STORE_GGUF_BUILDER_H_
#define TIERCEL_TESTS_STORE_GGUF_BUILDER_H_

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::testing {

// Numbers of types in GGUF, written out: the tests hold them against the format, not against
// the library's enum.
inline constexpr std::uint32_t kGgufU8 = 0;
inline constexpr std::uint32_t kGgufI8 = 1;
inline constexpr std::uint32_t kGgufU16 = 2;
inline constexpr std::uint32_t kGgufU32 = 4;
inline constexpr std::uint32_t kGgufI32 = 5;
inline constexpr std::uint32_t kGgufF32 = 6;
inline constexpr std::uint32_t kGgufString = 8;
inline constexpr std::uint32_t kGgufArray = 9;
inline constexpr std::uint32_t kGgufU64 = 10;
inline constexpr std::uint32_t kGgufI64 = 11;
inline constexpr std::uint32_t kTensorF32 = 0;
inline constexpr std::uint32_t kTensorF16 = 1;
inline constexpr std::uint32_t kTensorQ8 = 8;
inline constexpr std::uint32_t kTensorBf16 = 30;

/// Writes GGUF files, right ones and wrong ones, by a few lines of its own.
class GgufBuilder {
 public:
  std::uint32_t version = 3;
  std::uint64_t alignment = 32;
  std::uint64_t extra_tensors = 0;  ///< Claimed beside those that are there.
  std::uint64_t extra_keys = 0;
  std::string magic = "GGUF";

  GgufBuilder& Text(std::string_view key, std::string_view value) {
    Key(key, kGgufString);
    PutText(keys_, value);
    return *this;
  }
  GgufBuilder& Number(std::string_view key, std::uint32_t type, std::uint64_t value) {
    Key(key, type);
    PutNumber(keys_, type, value);
    return *this;
  }
  GgufBuilder& Array(std::string_view key, std::uint32_t type,
                     const std::vector<std::uint64_t>& values) {
    Key(key, kGgufArray);
    Put<std::uint32_t>(keys_, type);
    Put<std::uint64_t>(keys_, values.size());
    for (const std::uint64_t value : values) PutNumber(keys_, type, value);
    return *this;
  }
  GgufBuilder& Texts(std::string_view key, const std::vector<std::string>& values) {
    Key(key, kGgufArray);
    Put<std::uint32_t>(keys_, kGgufString);
    Put<std::uint64_t>(keys_, values.size());
    for (const std::string& value : values) PutText(keys_, value);
    return *this;
  }
  /// A key with the bytes of its value as they are.
  GgufBuilder& Raw(std::string_view key, std::uint32_t type, std::string_view bytes) {
    Key(key, type);
    keys_ += bytes;
    return *this;
  }
  GgufBuilder& Tensor(std::string_view name, std::uint32_t type,
                      const std::vector<std::uint64_t>& dimensions, std::string_view bytes) {
    return TensorAt(name, type, dimensions, bytes, data_.size());
  }
  /// A tensor that is said to lie at `offset`.
  GgufBuilder& TensorAt(std::string_view name, std::uint32_t type,
                        const std::vector<std::uint64_t>& dimensions, std::string_view bytes,
                        std::uint64_t offset) {
    ++tensor_count_;
    PutText(tensors_, name);
    Put<std::uint32_t>(tensors_, static_cast<std::uint32_t>(dimensions.size()));
    for (const std::uint64_t dimension : dimensions) Put<std::uint64_t>(tensors_, dimension);
    Put<std::uint32_t>(tensors_, type);
    Put<std::uint64_t>(tensors_, offset);
    data_ += bytes;
    data_.append((alignment - data_.size() % alignment) % alignment, '\0');
    return *this;
  }

  [[nodiscard]] std::string Build() const {
    std::string file = magic;
    Put<std::uint32_t>(file, version);
    Put<std::uint64_t>(file, tensor_count_ + extra_tensors);
    Put<std::uint64_t>(file, key_count_ + extra_keys);
    file += keys_ + tensors_;
    file.append((alignment - file.size() % alignment) % alignment, '\0');
    return file + data_;
  }

 private:
  template <typename T>
  static void Put(std::string& to, T value) {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    to.append(bytes, sizeof(T));
  }
  static void PutText(std::string& to, std::string_view text) {
    Put<std::uint64_t>(to, text.size());
    to += text;
  }
  static void PutNumber(std::string& to, std::uint32_t type, std::uint64_t value) {
    char bytes[8];
    std::memcpy(bytes, &value, 8);
    const bool one = type == kGgufU8 || type == kGgufI8;
    const bool eight = type == kGgufU64 || type == kGgufI64;
    to.append(bytes, one ? 1 : type == kGgufU16 ? 2 : eight ? 8 : 4);
  }
  void Key(std::string_view key, std::uint32_t type) {
    ++key_count_;
    PutText(keys_, key);
    Put<std::uint32_t>(keys_, type);
  }

  std::string keys_;
  std::string tensors_;
  std::string data_;
  std::uint64_t key_count_ = 0;
  std::uint64_t tensor_count_ = 0;
};

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_STORE_GGUF_BUILDER_H_
