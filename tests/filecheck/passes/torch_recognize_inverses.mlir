// RUN: sta opt %s -p torch-recognize-inverses | filecheck %s

// Rows that are put into a matrix of four, one after the other: all powers of it up to the third.
// CHECK:      %[[A:.*]] = torch.aten.neg
// CHECK-NEXT: %[[SQUARE:.*]] = torch.aten.matmul %[[A]], %[[A]] :
// CHECK-NEXT: %[[CUBE:.*]] = torch.aten.matmul %[[SQUARE]], %[[A]] :
// CHECK:      %[[SUM:.*]] = torch.aten.add.Tensor %[[A]], %[[SQUARE]],
// CHECK:      %[[POWERS:.*]] = torch.aten.add.Tensor %[[SUM]], %[[CUBE]],
// CHECK-NEXT: func.return %[[POWERS]] :
func.func @main(%arg0: !torch.vtensor<[4,4],f32> {sta.name = "x"}) -> (!torch.vtensor<[4,4],f32> {sta.name = "output"}) {
  %0 = torch.constant.int 3
  %1 = torch.constant.int 2
  %2 = torch.constant.bool false
  %3 = torch.constant.int -2
  %4 = torch.constant.none
  %5 = torch.constant.int 1
  %6 = torch.constant.int 0
  %7 = torch.constant.int -1
  %8 = torch.aten.tril %arg0, %7 : !torch.vtensor<[4,4],f32>, !torch.int -> !torch.vtensor<[4,4],f32>
  %9 = torch.aten.neg %8 : !torch.vtensor<[4,4],f32> -> !torch.vtensor<[4,4],f32>
  %10 = torch.aten.slice.Tensor %9, %6, %5, %1, %5 : !torch.vtensor<[4,4],f32>, !torch.int, !torch.int, !torch.int, !torch.int -> !torch.vtensor<[1,4],f32>
  %11 = torch.aten.slice.Tensor %10, %5, %6, %5, %5 : !torch.vtensor<[1,4],f32>, !torch.int, !torch.int, !torch.int, !torch.int -> !torch.vtensor<[1,1],f32>
  %12 = torch.prim.ListConstruct %5 : (!torch.int) -> !torch.list<int>
  %13 = torch.aten.view %11, %12 : !torch.vtensor<[1,1],f32>, !torch.list<int> -> !torch.vtensor<[1],f32>
  %14 = torch.aten.slice.Tensor %9, %6, %6, %5, %5 : !torch.vtensor<[4,4],f32>, !torch.int, !torch.int, !torch.int, !torch.int -> !torch.vtensor<[1,4],f32>
  %15 = torch.aten.slice.Tensor %14, %5, %6, %5, %5 : !torch.vtensor<[1,4],f32>, !torch.int, !torch.int, !torch.int, !torch.int -> !torch.vtensor<[1,1],f32>
  %16 = torch.aten.mul.Tensor %11, %15 : !torch.vtensor<[1,1],f32>, !torch.vtensor<[1,1],f32> -> !torch.vtensor<[1,1],f32>
  %17 = torch.prim.ListConstruct %3 : (!torch.int) -> !torch.list<int>
  %18 = torch.aten.sum.dim_IntList %16, %17, %2, %4 : !torch.vtensor<[1,1],f32>, !torch.list<int>, !torch.bool, !torch.none -> !torch.vtensor<[1],f32>
  %19 = torch.aten.add.Tensor %13, %18, %5 : !torch.vtensor<[1],f32>, !torch.vtensor<[1],f32>, !torch.int -> !torch.vtensor<[1],f32>
  %20 = torch.constant.int 4
  %21 = torch.prim.ListConstruct %20 : (!torch.int) -> !torch.list<int>
  %22 = torch.aten.view %10, %21 : !torch.vtensor<[1,4],f32>, !torch.list<int> -> !torch.vtensor<[4],f32>
  %23 = torch.aten.slice_scatter %22, %19, %6, %6, %5, %5 : !torch.vtensor<[4],f32>, !torch.vtensor<[1],f32>, !torch.int, !torch.int, !torch.int, !torch.int -> !torch.vtensor<[4],f32>
  %24 = torch.aten.select_scatter %9, %23, %6, %5 : !torch.vtensor<[4,4],f32>, !torch.vtensor<[4],f32>, !torch.int, !torch.int -> !torch.vtensor<[4,4],f32>
  %25 = torch.aten.slice.Tensor %24, %6, %1, %0, %5 : !torch.vtensor<[4,4],f32>, !torch.int, !torch.int, !torch.int, !torch.int -> !torch.vtensor<[1,4],f32>
  %26 = torch.aten.slice.Tensor %25, %5, %6, %1, %5 : !torch.vtensor<[1,4],f32>, !torch.int, !torch.int, !torch.int, !torch.int -> !torch.vtensor<[1,2],f32>
  %27 = torch.prim.ListConstruct %1 : (!torch.int) -> !torch.list<int>
  %28 = torch.aten.view %26, %27 : !torch.vtensor<[1,2],f32>, !torch.list<int> -> !torch.vtensor<[2],f32>
  %29 = torch.aten.slice.Tensor %24, %6, %6, %1, %5 : !torch.vtensor<[4,4],f32>, !torch.int, !torch.int, !torch.int, !torch.int -> !torch.vtensor<[2,4],f32>
  %30 = torch.aten.slice.Tensor %29, %5, %6, %1, %5 : !torch.vtensor<[2,4],f32>, !torch.int, !torch.int, !torch.int, !torch.int -> !torch.vtensor<[2,2],f32>
  %31 = torch.prim.ListConstruct %1, %5 : (!torch.int, !torch.int) -> !torch.list<int>
  %32 = torch.aten.view %26, %31 : !torch.vtensor<[1,2],f32>, !torch.list<int> -> !torch.vtensor<[2,1],f32>
  %33 = torch.aten.mul.Tensor %32, %30 : !torch.vtensor<[2,1],f32>, !torch.vtensor<[2,2],f32> -> !torch.vtensor<[2,2],f32>
  %34 = torch.aten.sum.dim_IntList %33, %17, %2, %4 : !torch.vtensor<[2,2],f32>, !torch.list<int>, !torch.bool, !torch.none -> !torch.vtensor<[2],f32>
  %35 = torch.aten.add.Tensor %28, %34, %5 : !torch.vtensor<[2],f32>, !torch.vtensor<[2],f32>, !torch.int -> !torch.vtensor<[2],f32>
  %36 = torch.aten.view %25, %21 : !torch.vtensor<[1,4],f32>, !torch.list<int> -> !torch.vtensor<[4],f32>
  %37 = torch.aten.slice_scatter %36, %35, %6, %6, %1, %5 : !torch.vtensor<[4],f32>, !torch.vtensor<[2],f32>, !torch.int, !torch.int, !torch.int, !torch.int -> !torch.vtensor<[4],f32>
  %38 = torch.aten.select_scatter %24, %37, %6, %1 : !torch.vtensor<[4,4],f32>, !torch.vtensor<[4],f32>, !torch.int, !torch.int -> !torch.vtensor<[4,4],f32>
  %39 = torch.aten.slice.Tensor %38, %6, %0, %20, %5 : !torch.vtensor<[4,4],f32>, !torch.int, !torch.int, !torch.int, !torch.int -> !torch.vtensor<[1,4],f32>
  %40 = torch.aten.slice.Tensor %39, %5, %6, %0, %5 : !torch.vtensor<[1,4],f32>, !torch.int, !torch.int, !torch.int, !torch.int -> !torch.vtensor<[1,3],f32>
  %41 = torch.prim.ListConstruct %0 : (!torch.int) -> !torch.list<int>
  %42 = torch.aten.view %40, %41 : !torch.vtensor<[1,3],f32>, !torch.list<int> -> !torch.vtensor<[3],f32>
  %43 = torch.aten.slice.Tensor %38, %6, %6, %0, %5 : !torch.vtensor<[4,4],f32>, !torch.int, !torch.int, !torch.int, !torch.int -> !torch.vtensor<[3,4],f32>
  %44 = torch.aten.slice.Tensor %43, %5, %6, %0, %5 : !torch.vtensor<[3,4],f32>, !torch.int, !torch.int, !torch.int, !torch.int -> !torch.vtensor<[3,3],f32>
  %45 = torch.prim.ListConstruct %0, %5 : (!torch.int, !torch.int) -> !torch.list<int>
  %46 = torch.aten.view %40, %45 : !torch.vtensor<[1,3],f32>, !torch.list<int> -> !torch.vtensor<[3,1],f32>
  %47 = torch.aten.mul.Tensor %46, %44 : !torch.vtensor<[3,1],f32>, !torch.vtensor<[3,3],f32> -> !torch.vtensor<[3,3],f32>
  %48 = torch.aten.sum.dim_IntList %47, %17, %2, %4 : !torch.vtensor<[3,3],f32>, !torch.list<int>, !torch.bool, !torch.none -> !torch.vtensor<[3],f32>
  %49 = torch.aten.add.Tensor %42, %48, %5 : !torch.vtensor<[3],f32>, !torch.vtensor<[3],f32>, !torch.int -> !torch.vtensor<[3],f32>
  %50 = torch.aten.view %39, %21 : !torch.vtensor<[1,4],f32>, !torch.list<int> -> !torch.vtensor<[4],f32>
  %51 = torch.aten.slice_scatter %50, %49, %6, %6, %0, %5 : !torch.vtensor<[4],f32>, !torch.vtensor<[3],f32>, !torch.int, !torch.int, !torch.int, !torch.int -> !torch.vtensor<[4],f32>
  %52 = torch.aten.select_scatter %38, %51, %6, %0 : !torch.vtensor<[4,4],f32>, !torch.vtensor<[4],f32>, !torch.int, !torch.int -> !torch.vtensor<[4,4],f32>
  func.return %52 : !torch.vtensor<[4,4],f32>
}
