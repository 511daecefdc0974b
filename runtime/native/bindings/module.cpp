// The Python module: programs and machines for runtime/native_engine.py.

#include <pybind11/stl.h>

#include "analysis/taint.h"
#include "bindings/builder.h"

namespace py = pybind11;

namespace sta {
namespace {

// A machine that runs one program; both stay alive as long as their memories are looked at.
class Runner {
public:
    Runner(std::shared_ptr<const Program> program, Buffer constants, int threads)
        : program_(std::move(program)), constants_(std::move(constants)), machine_(program_->machine(threads)) {}

    void reset(std::uint8_t poison, bool goes_ahead) { machine_->reset(poison, goes_ahead); }

    // None while the program runs, True when it has ended, False if an instruction failed.
    py::object advance(double seconds, std::int64_t executed) {
        Progress progress;
        {
            const py::gil_scoped_release release;
            progress = program_->advance(*machine_, std::chrono::duration<double>(seconds), executed);
        }
        if (progress == Progress::running) return py::none();
        return py::bool_(progress == Progress::halted);
    }

    bool has_gone_wrong() const { return machine_->has_gone_wrong; }

    std::int64_t executed() const { return machine_->executed; }

    int pc() const { return program_->pc(*machine_); }

    std::vector<std::int64_t> counters() const { return {machine_->counters.begin(), machine_->counters.end()}; }

    // The memory itself, not a copy.
    static py::array memory(const py::object& self, const std::string& space) {
        Machine& machine = *self.cast<Runner&>().machine_;
        const auto array = [&](const Bytes& bytes) {
            return py::array_t<std::uint8_t>({bytes.size()}, {1}, bytes.data(), self);
        };
        switch (space_called(space)) {
            case Space::spad: return array(machine.spad);
            case Space::acc: return array(machine.acc);
            case Space::writable: return array(machine.writable);
            case Space::wbuf: return py::array_t<std::uint8_t>({machine.wbuf.size()}, {1}, machine.wbuf.settled(), self);
            default: throw BadDescription("a machine has no memory of its own called " + space);
        }
    }

    static py::tuple statistics(const py::object& self) {
        Machine& machine = *self.cast<Runner&>().machine_;
        const auto array = [&](std::vector<std::int64_t>& values) {
            return py::array_t<std::int64_t>({values.size()}, {sizeof(std::int64_t)}, values.data(), self);
        };
        return py::make_tuple(array(machine.sums), array(machine.squares));
    }

private:
    std::shared_ptr<const Program> program_;
    Buffer constants_;
    std::unique_ptr<Machine> machine_;
};

bool taint_of(const NativeProgram& native) {
    const py::gil_scoped_release release;
    return scores_stay_on_chip(*native.program, look);
}

std::vector<std::string> families_here() {
    std::vector<std::string> names;
    for (const Kernels* family : families()) {
        if (family->runs_here()) names.emplace_back(family->name);
    }
    return names;
}

}  // namespace
}  // namespace sta

PYBIND11_MODULE(_native, module) {
    using namespace sta;
    py::register_exception<BadDescription>(module, "BadDescription", PyExc_ValueError);
    module.def("families", &families_here);
    module.def("instruction_names", &instruction_names);
    module.attr("LARGEST_SIZE") = largest_size;
    module.attr("LARGEST_ROW_BYTES") = largest_row_bytes;
    module.attr("SEMAPHORES") = most_semaphores;
    py::class_<Builder>(module, "Builder")
        .def(py::init<const py::dict&, Buffer, int, int, std::int64_t, const std::string&>())
        .def("exponentials", &Builder::exponentials)
        .def("instruction", &Builder::instruction)
        .def("number", &Builder::number)
        .def("choice", &Builder::choice)
        .def("register", &Builder::in_register)
        .def("operand", &Builder::operand)
        .def("job", &Builder::job)
        .def("one_piece", &Builder::one_piece)
        .def("taint", &Builder::taint)
        .def("taint_source", &Builder::taint_source)
        .def("taint_result", &Builder::taint_result);
    py::class_<Runner>(module, "Machine")
        .def("reset", &Runner::reset)
        .def("advance", &Runner::advance)
        .def_property_readonly("has_gone_wrong", &Runner::has_gone_wrong)
        .def_property_readonly("executed", &Runner::executed)
        .def_property_readonly("pc", &Runner::pc)
        .def_property_readonly("counters", &Runner::counters)
        .def("memory", &Runner::memory)
        .def("statistics", &Runner::statistics);
    py::class_<NativeProgram> program(module, "Program");
    program
        .def(py::init([](const Builder& builder) {
            return NativeProgram{std::make_shared<const Program>(builder.description()), builder.constants()};
        }))
        .def("machine",
             [](const NativeProgram& native, int threads) {
                 return std::make_unique<Runner>(native.program, native.constants, threads);
             })
        .def("scores_stay_on_chip", &taint_of)
        .def_property_readonly("family", [](const NativeProgram& native) { return native.program->kernels().name; });
    bind_reports(program);
}
