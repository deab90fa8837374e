// RUN: not sparsecc-opt %s -t c 2>&1 | filecheck %s

// CHECK: error:{{.*}}tu.fence has no form in C; run convert-tu-to-c before the target c
func.func @main() {
  tu.fence
  func.return
}
