#include "python/store_object.h"

#include <string_view>
#include <utility>

#include "python/errors.h"

namespace tiercel::python {

StoreObject::StoreObject(const std::string& path, const StoreOptions& options,
                         const py::object& log)
    : token_map_(options.token_map) {
  StoreOptions with_log = options;
  std::shared_ptr<Dispatcher> dispatcher;
  if (!log.is_none()) {
    log_->Set(log);
    dispatcher = Dispatcher::Get();
    with_log.log = [dispatcher, slot = log_](std::string_view line) {
      dispatcher->Post([slot, text = std::string(line)] {
        if (slot->callable() == nullptr) return;
        py::reinterpret_borrow<py::object>(slot->callable())(py::str(text.data(), text.size()));
      });
    };
  }
  Result<std::unique_ptr<Store>> opened = [&] {
    const py::gil_scoped_release release;
    Result<std::unique_ptr<Store>> result = Store::Open(path, with_log);
    // What Open() had to say is said when it returns.
    if (dispatcher != nullptr) dispatcher->Flush();
    return result;
  }();
  if (!opened.ok()) {
    log_->Clear();
    Raise(opened.status());
  }
  store_ = std::move(opened).value();
  if (token_map_ == nullptr) token_map_ = store_->checkpoint().token_map;
  const Recipe& recipe = store_->checkpoint().recipe;
  columns_ = recipe.column_count();
  for (const LayerRecipe& layer : recipe.layers) {
    if (store_->OutputRowSizeBytes(layer.layer_id, RowOutput::kStored).ok()) {
      layers_.push_back(layer.layer_id);
    }
  }
}

void StoreObject::Close() {
  if (store_ != nullptr) {
    std::shared_ptr<Store> store = std::move(store_);
    store_ = nullptr;
    const py::gil_scoped_release release;
    store = nullptr;
  }
  log_->Clear();
}

std::shared_ptr<Store> StoreObject::store() const {
  if (store_ == nullptr) RaiseInvalid("the store is closed");
  return store_;
}

LayerShape StoreObject::Shape(std::uint32_t layer_id, std::size_t token_count,
                              RowOutput format) const {
  LayerShape shape = ShapeOfRows(layer_id, token_count, format);
  shape.columns = columns_;
  shape.by_rows = false;
  return shape;
}

LayerShape StoreObject::ShapeOfRows(std::uint32_t layer_id, std::size_t row_count,
                                    RowOutput format) const {
  LayerShape shape;
  shape.layer_id = layer_id;
  shape.tokens = row_count;
  shape.columns = 1;
  shape.by_rows = true;
  shape.format = format;
  shape.row_bytes = ValueOrRaise(store()->OutputRowSizeBytes(layer_id, format));
  return shape;
}

}  // namespace tiercel::python
