// The only file that knows Python. Arguments come checked; what remains here is to unpack them and let go of the lock.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "arithmetic.h"
#include "data.h"
#include "dispatch.h"
#include "limits.h"
#include "pool.h"
#include "posterior.h"
#include "steps.h"

namespace py = pybind11;

namespace interp_fast {
namespace {

using Doubles = py::array_t<double, py::array::c_style>;
using Integers = py::array_t<int64_t, py::array::c_style>;

// Ctrl-C is heard, and other signals are handled, in the middle of a call.
void handle_signals() {
  py::gil_scoped_acquire acquire;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
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

std::unique_ptr<PyData> make_data(const py::array& rows, const Doubles& log_w, const Doubles& center,
                                  const Doubles& mean, double radius, double reach,
                                  std::optional<std::pair<double, double>> scale, double bandwidth, bool low_memory,
                                  int threads) {
  const auto [a, b] = scale.value_or(std::pair<double, double>(1.0, 0.0));
  const Rows raw{
      static_cast<const char*>(rows.data()), rows.strides(0), rows.shape(0), rows.shape(1), row_type(rows), a, b};
  const double *w = log_w.data(), *c = center.data(), *m = mean.data();
  auto out = std::unique_ptr<PyData>(new PyData{rows, log_w, {}});
  const Outside outside;
  out->data = prepare(raw, w, c, m, radius, reach, bandwidth, low_memory, threads);
  return out;
}

// The array that `out` holds under a name, or nullptr.
template <class T>
T* entry(const py::dict& out, const char* name) {
  if (!out.contains(name)) return nullptr;
  return out[name].cast<py::array_t<T, py::array::c_style>>().mutable_data();
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
  to.index = entry<int64_t>(out, "index");
  to.top_index = entry<int64_t>(out, "top_index");
  to.top_weight = entry<double>(out, "top_weight");
  if (to.top_index) to.top = out["top_index"].cast<py::array>().shape(1);
  const double *queries = x.data(), *a = alpha.data(), *s = sigma.data(), *c = cut.data(), *v = u ? u->data() : nullptr;
  const int64_t count = x.shape(0);
  const Outside outside;
  posterior(data.data, queries, count, a, s, c, v, to, threads);
}

void py_nearest(const Doubles& x, const PyData& data, double alpha, Integers& index, Doubles& squared_distance,
                int threads) {
  const double* queries = x.data();
  const int64_t count = x.shape(0), k = index.shape(1);
  int64_t* rows = index.mutable_data();
  double* distances = squared_distance.mutable_data();
  const Outside outside;
  nearest(data.data, queries, count, alpha, k, rows, distances, threads);
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

void py_run_steps(Doubles& base, Doubles& cur, Doubles& previous, Integers& index, Integers& since, Doubles& dropped,
                  Doubles& work, std::optional<Doubles>& terms, std::optional<Doubles>& previous_error,
                  const PyData& data, const Doubles& alpha, const Doubles& sigma, const Doubles& a, const Doubles& b,
                  const Doubles& c, const Doubles& s, const py::array_t<bool, py::array::c_style>& commit,
                  int64_t first, int64_t last, uint64_t key, uint64_t first_sample, const std::optional<Doubles>& error,
                  double cut, int threads) {
  const RunState state{cur.shape(0),
                       base.mutable_data(),
                       cur.mutable_data(),
                       previous.mutable_data(),
                       terms ? terms->mutable_data() : nullptr,
                       terms ? previous_error->mutable_data() : nullptr,
                       dropped.mutable_data(),
                       work.mutable_data(),
                       index.mutable_data(),
                       since.mutable_data()};
  const Table table{alpha.data(), sigma.data(), a.data(), b.data(), c.data(), s.data(), commit.data()};
  const double* errors = error ? error->data() : nullptr;
  const Outside outside;
  run_steps(state, data.data, table, first, last, key, first_sample, errors, cut, threads);
}

}  // namespace
}  // namespace interp_fast

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
  using namespace interp_fast;
  using py::arg;
  m.doc() = "Compiled kernels of interp_fast.";
#ifdef IF_VERSION
  m.attr("__version__") = IF_VERSION;
#endif
  m.attr("build") = IF_BUILD;
  m.def("isa", [] { return std::string(active_kernels().name); }, "Name of the instruction set in use.");
  m.def("set_isa", &set_isa, arg("name"), "Use another instruction set of this processor from now on.");
  m.def("supported", &supported_isas, "Instruction sets that run here, best first.");
  py::class_<PyData>(m, "Data").def(py::init(&make_data), arg("rows").noconvert(), arg("log_w").noconvert(),
                                    arg("center").noconvert(), arg("mean").noconvert(), arg("radius"), arg("reach"),
                                    arg("scale"), arg("bandwidth"), arg("low_memory"), arg("threads"));
  m.def("posterior", &py_posterior, arg("x").noconvert(), arg("data"), arg("alpha").noconvert(),
        arg("sigma").noconvert(), arg("cut").noconvert(), arg("u").noconvert(), arg("out"), arg("threads"));
  m.def("nearest", &py_nearest, arg("x").noconvert(), arg("data"), arg("alpha"), arg("index").noconvert(),
        arg("squared_distance").noconvert(), arg("threads"));
  m.def("normals", &py_normals, arg("key"), arg("first_sample"), arg("row"), arg("out").noconvert(), arg("threads"));
  m.def("limits", &py_limits, arg("memory").noconvert(), arg("threads"));
  m.def("run_steps", &py_run_steps, arg("base").noconvert(), arg("cur").noconvert(), arg("previous").noconvert(),
        arg("index").noconvert(), arg("since").noconvert(), arg("dropped").noconvert(), arg("work").noconvert(),
        arg("terms").noconvert(), arg("previous_error").noconvert(), arg("data"), arg("alpha").noconvert(),
        arg("sigma").noconvert(), arg("a").noconvert(), arg("b").noconvert(), arg("c").noconvert(),
        arg("s").noconvert(), arg("commit").noconvert(), arg("first"), arg("last"), arg("key"), arg("first_sample"),
        arg("error").noconvert(), arg("cut"), arg("threads"));
}
