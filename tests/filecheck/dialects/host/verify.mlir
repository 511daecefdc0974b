// RUN: sta opt %s --split-input-file --verify-diagnostics | filecheck %s

func.func @other_type(%x: tensor<2xsi64>) {
  %y = host.convert %x : (tensor<2xsi64>) -> tensor<3xsi64>
  func.return
}
// CHECK: the result is int64[2], not int64[3]

// -----

func.func @no_axis(%x: tensor<2xsi64>) {
  %y = host.cumsum %x axis 1 : (tensor<2xsi64>) -> tensor<2xsi64>
  func.return
}
// CHECK: it has no axis 1

// -----

func.func @floats(%x: tensor<2xf32>) {
  %y = host.add %x, %x : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  func.return
}
// CHECK: a value's dtype is 'float32'
