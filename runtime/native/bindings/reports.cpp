// The part of the Python module that looks at runs, for runtime/analysis/native_reports.py.

#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include "analysis/cycle_attribution.h"
#include "analysis/races.h"
#include "analysis/timing.h"
#include "analysis/trace.h"
#include "bindings/bindings.h"

namespace py = pybind11;

namespace sta {
namespace {

using Array = py::array_t<std::int64_t, py::array::c_style>;
using Columns = std::array<Array, 8>;

Column column_of(const Array& array) {
    if (array.ndim() != 1) throw BadDescription("a column has one dimension");
    return {array.data(), static_cast<std::size_t>(array.size())};
}

Run run_of(const NativeProgram& native, const Columns& columns) {
    const auto column = [&](std::size_t number) { return column_of(columns[number]); };
    return Run(*native.program,
               {column(0), column(1), column(2), column(3), column(4), column(5), column(6), column(7)});
}

// An array that takes the values over.
template <typename Value>
py::array_t<Value> array_of(std::vector<Value>&& values, std::vector<py::ssize_t> shape = {}) {
    auto owned = std::make_unique<std::vector<Value>>(std::move(values));
    std::vector<Value>* pointer = owned.get();
    const py::capsule owner(owned.release(), [](void* data) { delete static_cast<std::vector<Value>*>(data); });
    if (shape.empty()) shape = {static_cast<py::ssize_t>(pointer->size())};
    return py::array_t<Value>(shape, pointer->data(), owner);
}

// Cycles, and the busy cycles of each unit; None in a deadlock.
py::object timing_of(const NativeProgram& native) {
    std::optional<Timing> found;
    {
        const py::gil_scoped_release release;
        found = simulate(*native.program, look);
    }
    if (!found) return py::none();
    return py::make_tuple(found->cycles, found->busy);
}

// The columns of the schedule; None in a deadlock.
py::object schedule_of(const NativeProgram& native) {
    std::optional<Schedule> found;
    {
        const py::gil_scoped_release release;
        found = record(*native.program, look);
    }
    if (!found) return py::none();
    return py::make_tuple(array_of(std::move(found->pc)), array_of(std::move(found->unit)),
                          array_of(std::move(found->ready)), array_of(std::move(found->entered)),
                          array_of(std::move(found->start)), array_of(std::move(found->end)),
                          array_of(std::move(found->complete)), array_of(std::move(found->order)));
}

// Ends, rows and whether issued.
py::tuple charges_of(const NativeProgram& native, const Columns& columns, int products) {
    Charges charges;
    {
        const py::gil_scoped_release release;
        charges = attribute(run_of(native, columns), products);
    }
    return py::make_tuple(array_of(std::move(charges.end)), array_of(std::move(charges.row)),
                          array_of(std::move(charges.issued)));
}

// Working, idle by cause, busy by unit and concurrent by unit, each by module.
py::tuple module_cycles_of(const NativeProgram& native, const Columns& columns, int products, const Array& module_of_pc,
                           std::size_t modules) {
    const Column column = column_of(module_of_pc);
    std::optional<ModuleCycles> cycles;
    {
        const py::gil_scoped_release release;
        const Run run = run_of(native, columns);
        cycles = cycles_of_modules(run, products, attribute(run, products), column, modules);
    }
    return py::make_tuple(std::move(cycles->working), std::move(cycles->idle), std::move(cycles->busy),
                          std::move(cycles->concurrent));
}

// An array [rows, units]; None if semaphores are shared.
py::object clocks_of(const NativeProgram& native, const Columns& columns) {
    std::optional<Clocks> clocks;
    {
        const py::gil_scoped_release release;
        clocks = clocks_before(run_of(native, columns));
    }
    if (!clocks) return py::none();
    py::array_t<std::int32_t> array({clocks->rows(), clocks->units()});
    std::memcpy(array.mutable_data(), (*clocks)[0], sizeof(std::int32_t) * static_cast<std::size_t>(array.size()));
    return array;
}

// The races found as tuples, and how many instructions, accesses and bytes were compared; None if they are too many.
py::object races_of(const NativeProgram& native, const Columns& columns,
                    const py::array_t<std::int32_t, py::array::c_style>& clocks, std::size_t limit) {
    const auto units = static_cast<py::ssize_t>(native.program->runs_on().units);
    if (clocks.ndim() != 2 || clocks.shape(1) != units) throw BadDescription("clocks have a number for each unit");
    std::optional<RaceCheck> check;
    {
        Clocks known(static_cast<std::size_t>(clocks.shape(0)), static_cast<std::size_t>(units));
        std::memcpy(known[0], clocks.data(), sizeof(std::int32_t) * static_cast<std::size_t>(clocks.size()));
        const py::gil_scoped_release release;
        check = check_races(run_of(native, columns), known, limit, look);
    }
    if (!check) return py::none();
    py::list found;
    for (const FoundRace& race : check->found) {
        found.append(py::make_tuple(race.earlier, race.earlier_writes, race.later, race.access));
    }
    return py::make_tuple(found, check->instructions, check->accesses, check->bytes);
}

void trace_of(const NativeProgram& native, const Columns& columns, const std::vector<std::string>& begins,
              const std::vector<std::string>& ends, const std::vector<std::string>& modules, const Array& module_of_pc,
              const std::array<Array, 7>& times, const std::vector<std::string>& reasons, std::size_t shown,
              const std::function<void(py::bytes)>& write) {
    const auto column = [&](std::size_t number) { return column_of(times[number]); };
    const TraceDescription trace{begins,    ends,      modules,   column_of(module_of_pc), column(0), column(1), column(2),
                                 column(3), column(4), column(5), column(6),               reasons,   shown,
                                 static_cast<std::size_t>(times[4].size())};
    write_trace(run_of(native, columns), trace, [&](std::string_view text) { write(py::bytes(text.data(), text.size())); });
}

}  // namespace

void bind_reports(py::class_<NativeProgram>& program) {
    program.def("timing", &timing_of)
        .def("schedule", &schedule_of)
        .def("charges", &charges_of)
        .def("module_cycles", &module_cycles_of)
        .def("clocks", &clocks_of)
        .def("races", &races_of)
        .def("write_trace", &trace_of);
}

}  // namespace sta
