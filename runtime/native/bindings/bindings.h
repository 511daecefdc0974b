// What the files that make up the Python module share.

#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>

#include "program/program.h"

namespace sta {

using Buffer = pybind11::array_t<std::uint8_t, pybind11::array::c_style>;

// Lets Python handle an interrupt during a long walk.
inline void look() {
    const pybind11::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
}

// A program, and what it must not outlive.
struct NativeProgram {
    std::shared_ptr<const Program> program;
    Buffer constants;
};

// Adds what runtime/analysis/native_reports.py calls.
void bind_reports(pybind11::class_<NativeProgram>& program);

}  // namespace sta
