#ifndef TIERCEL_TESTS_STORE_SMALL_GGUF_H_
#define TIERCEL_TESTS_STORE_SMALL_GGUF_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tests/store/gguf_builder.h"
#include "tiercel/recipe.h"

namespace tiercel::testing {

/// A GGUF model of two layers, 1 and 14, with orders 2 and 3, two heads of 32 values and 50
/// classes of 60 tokens, right in all but what a test changes.
class SmallGguf {
 public:
  using Write = std::function<void(GgufBuilder&, const std::string& prefix)>;

  SmallGguf();

  /// The recipe by the formulas.
  [[nodiscard]] const Recipe& recipe() const noexcept { return recipe_; }

  std::string architecture = "deepseek41";
  std::string prefix = "deepseek41.engram.";
  std::uint32_t tensor_type = kTensorF32;
  std::vector<std::uint32_t> tensor_layers = {1, 14};

  /// Leaves the key `name` out.
  void Drop(const std::string& name) {
    writes_[name] = [](GgufBuilder&, const std::string&) {};
  }
  /// Writes something else in its place.
  void Replace(const std::string& name, Write write) { writes_[name] = std::move(write); }
  /// The same integer under another name.
  void Rename(const std::string& name, const std::string& new_name, std::uint64_t value) {
    Replace(name, [new_name, value](GgufBuilder& builder, const std::string& at) {
      builder.Number(at + new_name, kGgufU32, value);
    });
  }
  void SetArray(const std::string& name, std::uint32_t type, std::vector<std::uint64_t> values) {
    Replace(name,
            [name, type, values = std::move(values)](GgufBuilder& builder, const std::string& at) {
              builder.Array(at + name, type, values);
            });
  }

  /// The flat arrays as they should be.
  [[nodiscard]] std::vector<std::uint64_t> Multipliers() const;
  [[nodiscard]] std::vector<std::uint64_t> Primes() const;
  [[nodiscard]] std::vector<std::uint64_t> Offsets() const;
  [[nodiscard]] static std::vector<std::uint64_t> TokenMapEntries();

  /// The metadata, without tensors.
  void WriteKeys(GgufBuilder& builder) const;
  /// The table of one layer; rows are `fill` over and over.
  void WriteTable(GgufBuilder& builder, std::uint32_t layer_id, char fill = 'r') const;
  [[nodiscard]] std::string Build() const;

 private:
  Recipe recipe_;
  std::map<std::string, Write> writes_;
};

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_STORE_SMALL_GGUF_H_
