// The only file that knows Python. Arguments come checked; what remains here is to unpack them and let go of the lock.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "accuracy.h"
#include "arithmetic.h"
#include "data.h"
#include "dispatch.h"
#include "int8.h"
#include "limits.h"
#include "nearest.h"
#include "pool.h"
#include "posterior.h"
#include "steps.h"

namespace py = pybind11;

namespace interp_fast {
namespace {

using Doubles = py::array_t<double, py::array::c_style>;
using Integers = py::array_t<int64_t, py::array::c_style>;
using Array32 = py::array_t<int32_t, py::array::c_style>;
using Booleans = py::array_t<bool, py::array::c_style>;

// Ctrl-C is heard, and other signals are handled, in the middle of a call.
void handle_signals() {
  py::gil_scoped_acquire acquire;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

// GNU's malloc gives what is large back to the system when it is freed, and it comes back page by page, zeroed: in
// calls of some MB for as long as they compute. Once so much has been freed at once, it keeps up to some 62 MB, of the
// whole process: nearly any program comes to that, and this before its first call.
void keep_freed_memory() {
#if defined(__GLIBC__)
  void* volatile much = std::malloc(size_t{31} << 20);  // it looks at no more than 32 MiB
  std::free(much);
#endif
}

// What a call runs under: without the lock, in our arithmetic, listening to signals.
struct Outside {
  py::gil_scoped_release release;
  DefaultArithmetic arithmetic;
  Polled polled{handle_signals};
};

// A prepared training set with the arrays it points into.
struct PyData {
  py::array rows;
  Doubles log_w;
  Data data;
};

RowType row_type(const py::array& rows) {
  const py::dtype type = rows.dtype();
  if (type.kind() == 'f') {
    if (type.itemsize() == 8) return RowType::f64;
    return type.itemsize() == 4 ? RowType::f32 : RowType::f16;
  }
  return type.itemsize() == 1 ? RowType::u8 : RowType::bf16;
}

// What has to be such an array, of so many numbers if that is said: one that is not would be a copy, and what is
// written there lost.
template <class Array>
Array contiguous(const py::object& value, const char* name, std::optional<py::ssize_t> length = {}) {
  if (!py::isinstance<Array>(value)) {
    throw py::type_error(std::string(name) + " must be a C-contiguous array of " +
                         std::string(py::str(py::dtype::of<typename Array::value_type>())) + "; got " +
                         std::string(py::str(py::type::of(value))) + ".");
  }
  auto array = py::reinterpret_borrow<Array>(value);
  if (length && (array.ndim() != 1 || array.size() != *length)) {
    throw py::value_error(std::string(name) + " must have shape (" + std::to_string(*length) + ",); got " +
                          std::string(py::str(value.attr("shape"))) + ".");
  }
  return array;
}

template <class Array>
Array attribute(const py::handle& of, const char* name) {
  return contiguous<Array>(of.attr(name), name);
}

std::unique_ptr<PyData> make_data(const py::array& rows, const Doubles& log_w, const py::object& moments,
                                  std::optional<std::pair<double, double>> scale, double bandwidth, bool low_memory,
                                  int threads) {
  const auto [a, b] = scale.value_or(std::pair<double, double>(1.0, 0.0));
  const Rows raw = {.data = static_cast<const char*>(rows.data()),
                    .stride = rows.strides(0),
                    .n = rows.shape(0),
                    .d = rows.shape(1),
                    .type = row_type(rows),
                    .a = a,
                    .b = b};
  const Doubles center = attribute<Doubles>(moments, "center"), mean = attribute<Doubles>(moments, "mean");
  const Moments of_rows = {.center = center.data(),
                           .mean = mean.data(),
                           .radius = moments.attr("radius").cast<double>(),
                           .reach = moments.attr("reach").cast<double>()};
  const double* w = log_w.data();
  auto out = std::unique_ptr<PyData>(new PyData{rows, log_w, {}});
  const Outside outside;
  out->data = prepare(raw, w, of_rows, bandwidth, low_memory, threads);
  return out;
}

// The array that `out` holds under a name, or nullptr. None is converted: what is written to a copy would be lost.
template <class T>
T* entry(const py::dict& out, const char* name) {
  using Array = py::array_t<T, py::array::c_style>;
  return out.contains(name) ? contiguous<Array>(out[name], name).mutable_data() : nullptr;
}

void py_posterior(const Doubles& x, const PyData& data, const Doubles& alpha, const Doubles& sigma, const Doubles& cut,
                  const std::optional<Doubles>& u, const py::dict& out, int threads) {
  Outputs to{};
  to.mean = entry<double>(out, "mean");
  to.log_norm = entry<double>(out, "log_norm");
  to.gap = entry<double>(out, "gap");
  to.log_rest = entry<double>(out, "log_rest");
  to.ess = entry<double>(out, "ess");
  to.entropy = entry<double>(out, "entropy");
  to.variance = entry<double>(out, "variance");
  to.scatter = entry<double>(out, "scatter");
  to.jvp = entry<double>(out, "jvp");
  to.dropped = entry<double>(out, "dropped");
  to.work = entry<double>(out, "work");
  to.rounding = to.mean ? entry<double>(out, "rounding") : nullptr;
  to.index = entry<int64_t>(out, "index");
  to.top_index = entry<int64_t>(out, "top_index");
  to.top_weight = entry<double>(out, "top_weight");
  if (to.top_index) to.top = out["top_index"].cast<py::array>().shape(1);
  const auto read = [&out](const char* name, py::ssize_t length) -> const int64_t* {
    return out.contains(name) ? contiguous<Integers>(out[name], name, length).data() : nullptr;
  };
  to.codes = read("codes", data.rows.shape(0)), to.by_class = read("by_class", data.rows.shape(0));
  to.class_of = read("class_of", x.shape(0));
  to.class_mean = to.codes && to.class_of ? entry<double>(out, "class_mean") : nullptr;
  to.mass = to.codes ? entry<double>(out, "mass") : nullptr;
  if (to.mass) to.classes = out["mass"].cast<py::array>().shape(1);
  const int64_t parts = out.contains("parts") ? out["parts"].cast<int64_t>() : 1;
  if (parts < 1 || x.shape(0) % parts != 0) {
    throw py::value_error("parts must divide the number of queries, " + std::to_string(x.shape(0)) + "; got " +
                          std::to_string(parts) + ".");
  }
  const QueryArrays queries = {.count = x.shape(0),
                               .x = x.data(),
                               .alpha = alpha.data(),
                               .sigma = sigma.data(),
                               .cut = cut.data(),
                               .u = u && to.jvp ? u->data() : nullptr,
                               .parts = parts};
  const Outside outside;
  posterior(data.data, queries, to, threads);
}

void py_nearest(const Doubles& x, const PyData& data, double alpha, Integers& index, Doubles& squared_distance,
                int threads) {
  const double* queries = x.data();
  const int64_t count = x.shape(0);
  const Nearest out = {
      .k = index.shape(1), .index = index.mutable_data(), .squared_distance = squared_distance.mutable_data()};
  const Outside outside;
  nearest(data.data, queries, count, alpha, out, threads);
}

void py_normals(uint64_t key, uint64_t first_sample, uint32_t row, Doubles& out, int threads) {
  double* to = out.mutable_data();
  const int64_t n = out.shape(0);
  const ptrdiff_t d = out.shape(1);
  const Outside outside;
  normals(key, first_sample, row, n, d, to, threads);
}

std::map<std::string, double> py_limits(const py::array_t<uint8_t, py::array::c_style>& memory, int threads) {
  const char* p = reinterpret_cast<const char*>(memory.data());
  const int64_t bytes = memory.size();
  const Outside outside;
  return limits(p, bytes, threads);
}

Array32 py_integers(const py::array_t<uint8_t, py::array::c_style>& rows,
                    const py::array_t<int8_t, py::array::c_style>& queries, const Array32& offsets) {
  const Rows of_bytes = {.data = reinterpret_cast<const char*>(rows.data()),
                         .stride = rows.shape(1),
                         .n = rows.shape(0),
                         .d = rows.shape(1),
                         .type = RowType::u8,
                         .a = 1,
                         .b = 0};
  if (!active_int8()) throw std::invalid_argument("This instruction set has no products of bytes.");
  Array32 out({rows.shape(0), queries.shape(0)});
  integers(of_bytes, queries.data(), offsets.data(), queries.shape(0), out.mutable_data());
  return out;
}

// `state` and `table` are State and StepTable of the package; rows: the first and the one after the last; noise: the
// key and the first sample.
void py_run_steps(const py::object& state, const PyData& data, const py::object& table,
                  std::pair<int64_t, int64_t> rows, std::pair<uint64_t, uint64_t> noise,
                  const std::optional<Doubles>& error, double cut, int threads) {
  std::vector<py::object> kept;  // alive while they are worked on
  const auto keep = [&kept](const auto& array) {
    kept.push_back(array);
    return array;
  };
  const auto read = [&](const char* name) { return keep(attribute<Doubles>(table, name)).data(); };
  const auto written = [&](const char* name) -> double* {
    return state.attr(name).is_none() ? nullptr : keep(attribute<Doubles>(state, name)).mutable_data();
  };
  const auto counted = [&](const char* name) { return keep(attribute<Integers>(state, name)).mutable_data(); };
  const RunState run_state = {.n = attribute<Doubles>(state, "cur").shape(0),
                              .base = written("base"),
                              .cur = written("cur"),
                              .previous = written("previous"),
                              .terms = written("terms"),
                              .previous_error = written("previous_error"),
                              .dropped = written("dropped"),
                              .work = written("work"),
                              .index = counted("index"),
                              .since = counted("since")};
  const Table columns = {.alpha = read("alpha"),
                         .sigma = read("sigma"),
                         .a = read("A"),
                         .b = read("B"),
                         .c = read("C"),
                         .s = read("S"),
                         .commit = keep(attribute<Booleans>(table, "commit")).data()};
  const Run run = {.first = rows.first,
                   .last = rows.second,
                   .key = noise.first,
                   .first_sample = noise.second,
                   .error = error ? error->data() : nullptr,
                   .cut = cut};
  const Outside outside;
  run_steps(run_state, data.data, columns, run, threads);
}

// What results promise, as the error model has it.
py::dict accuracy_table() {
  const auto entry = [](const Accuracy& from) {
    py::dict of;
    of["logit"] = from.logit;
    of["per_radius"] = from.per_radius;
    of["per_deviation"] = from.per_deviation;
    of["top_weight"] = from.top_weight;
    of["rest"] = from.rest;
    of["variance"] = from.variance;
    of["scatter"] = from.scatter;
    return of;
  };
  py::dict out;
  out["float32"] = entry(kFloat32);
  out["float64"] = entry(kFloat64);
  out["float32"]["noise"] = kNoise32;
  out["float64"]["noise"] = kNoise64;
  return out;
}

}  // namespace
}  // namespace interp_fast

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
  using namespace interp_fast;
  using py::arg;
  m.doc() = "Compiled kernels of interp_fast.";
  keep_freed_memory();
#ifdef IF_VERSION
  m.attr("__version__") = IF_VERSION;
#endif
  m.attr("build") = IF_BUILD;
  m.attr("accuracy") = accuracy_table();
  m.def("isa", [] { return std::string(active_kernels().name); }, "Name of the instruction set in use.");
  m.def("set_isa", &set_isa, arg("name"), "Use another instruction set of this processor from now on.");
  m.def("supported", &supported_isas, "Instruction sets that run here, best first.");
  m.def("amx_obstacle", &amx_obstacle, "Why amx is not among these; empty if it is.");
  m.def("integers", &py_integers, arg("rows").noconvert(), arg("queries").noconvert(), arg("offsets").noconvert(),
        "offsets + <row, query> as the instruction set in use multiplies bytes.");
  py::class_<PyData>(m, "Data").def(py::init(&make_data), arg("rows").noconvert(), arg("log_w").noconvert(),
                                    arg("moments"), arg("scale"), arg("bandwidth"), arg("low_memory"), arg("threads"));
  m.def("posterior", &py_posterior, arg("x").noconvert(), arg("data"), arg("alpha").noconvert(),
        arg("sigma").noconvert(), arg("cut").noconvert(), arg("u").noconvert(), arg("out"), arg("threads"));
  m.def("nearest", &py_nearest, arg("x").noconvert(), arg("data"), arg("alpha"), arg("index").noconvert(),
        arg("squared_distance").noconvert(), arg("threads"));
  m.def("normals", &py_normals, arg("key"), arg("first_sample"), arg("row"), arg("out").noconvert(), arg("threads"));
  m.def("limits", &py_limits, arg("memory").noconvert(), arg("threads"));
  m.def("run_steps", &py_run_steps, arg("state"), arg("data"), arg("table"), arg("rows"), arg("noise"),
        arg("error").noconvert(), arg("cut"), arg("threads"));
}
