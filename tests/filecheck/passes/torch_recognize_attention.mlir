// RUN: sta opt %s -p torch-recognize-attention | filecheck %s

// matmul, scale, softmax, matmul.
func.func @main(%q: !torch.vtensor<[1,2,6,4],f32> {sta.name = "q"}, %k: !torch.vtensor<[1,2,6,4],f32> {sta.name = "k"}, %v: !torch.vtensor<[1,2,6,4],f32> {sta.name = "v"}) -> (!torch.vtensor<[1,2,6,4],f32> {sta.name = "output"}) {
  %none = torch.constant.none
  %last = torch.constant.int -1
  %two = torch.constant.float 2.000000e+00
  %0 = torch.constant.int 0
  %1 = torch.constant.int 1
  %2 = torch.constant.int 2
  %3 = torch.constant.int 3
  %swap = torch.prim.ListConstruct %0, %1, %3, %2 : (!torch.int, !torch.int, !torch.int, !torch.int) -> !torch.list<int>
  %kt = torch.aten.permute %k, %swap : !torch.vtensor<[1,2,6,4],f32>, !torch.list<int> -> !torch.vtensor<[1,2,4,6],f32>
  %scores = torch.aten.matmul %q, %kt : !torch.vtensor<[1,2,6,4],f32>, !torch.vtensor<[1,2,4,6],f32> -> !torch.vtensor<[1,2,6,6],f32>
  %scaled = torch.aten.div.Scalar %scores, %two : !torch.vtensor<[1,2,6,6],f32>, !torch.float -> !torch.vtensor<[1,2,6,6],f32>
  %p = torch.aten.softmax.int %scaled, %last, %none : !torch.vtensor<[1,2,6,6],f32>, !torch.int, !torch.none -> !torch.vtensor<[1,2,6,6],f32>
  %y = torch.aten.matmul %p, %v : !torch.vtensor<[1,2,6,6],f32>, !torch.vtensor<[1,2,6,4],f32> -> !torch.vtensor<[1,2,6,4],f32>
  func.return %y : !torch.vtensor<[1,2,6,4],f32>
}

// CHECK-NOT:  torch.aten.matmul
// CHECK-NOT:  torch.aten.softmax
// CHECK:      %[[SCALE:.*]] = torch.constant.float 5.000000e-01
// CHECK:      %y = torch.aten.scaled_dot_product_attention %q, %{{.*}}, %v, %{{.*}}, %{{.*}}, %{{.*}}, %[[SCALE]], %{{.*}}
// CHECK-NEXT: func.return %y
