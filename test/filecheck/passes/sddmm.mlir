// RUN: sparsecc-opt %s -p 'sparse-compact{mode=none}' | filecheck %s --check-prefix=COMPACT
// RUN: sparsecc-opt %s -p 'sparse-compact{mode=dense},sparse-lower,sparse-lift,sparse-group' | filecheck %s --check-prefix=DENSE
// RUN: sparsecc-opt %s -p 'sparse-compact{mode=none},sparse-lower' | filecheck %s --check-prefix=LOWER
// RUN: sparsecc-opt %s -p 'sparse-compact{mode=none},sparse-lower,sparse-lift' | filecheck %s --check-prefix=LIFT
// RUN: sparsecc-opt %s -p 'sparse-compact{mode=none},sparse-lower,sparse-lift{order="m-first"},sparse-group' | filecheck %s --check-prefix=GROUP
// RUN: sparsecc-opt %s -p 'sparse-compact{mode=none},sparse-lower,sparse-lift,sparse-group,convert-sparse-to-tu' | filecheck %s --check-prefix=TU

// A mask of 40 x 40 with points in four cells of 16 x 16.
// COMPACT:      plan "sparse" reason "mode none was asked for"
// COMPACT-NEXT:   sparse.cover { // 1 meta-op
// COMPACT-NEXT:     [0:40, 0:40] += k[0:20]

// A dense plan is one group, and computes every point.
// DENSE:      plan "dense"
// DENSE-NEXT:   sparse.group { // 1 meta-op
// DENSE-NEXT:     [0:40, 0:40] += k[0:20]

// All of k in each cell.
// LOWER:      sparse.cover { // 4 meta-ops
// LOWER-NEXT:   [0:16, 0:16] += k[0:20]
// LOWER-NEXT:   [16:32, 0:16] += k[0:20]
// LOWER-NEXT:   [16:32, 16:32] += k[0:20]
// LOWER-NEXT:   [32:40, 32:40] += k[0:20]

// First along N, for k is whole.
// LIFT:      sparse.cover { // 3 meta-ops
// LIFT-NEXT:   [0:16, 0:16] += k[0:20]
// LIFT-NEXT:   [16:32, 0:32] += k[0:20]
// LIFT-NEXT:   [32:40, 32:40] += k[0:20]

// No point is in two meta-ops, so one group holds those that share rows.
// GROUP:      sparse.group { // 3 meta-ops
// GROUP-NEXT:   [0:32, 0:16] += k[0:20]
// GROUP-NEXT:   [16:32, 16:32] += k[0:20]
// GROUP-NEXT:   [32:40, 32:40] += k[0:20]
// GROUP-NEXT: }
// GROUP-NEXT: }

// TU:     func.func private @fetch(%a: !tu.buffer<40x20xi8>, %b: !tu.buffer<20x40xi8>, %stage: index)
// TU:     tu.ld {{.*}} comment "rows of A"
// TU:     tu.ld {{.*}} comment "columns of B"
// TU:     func.func @main(%a: !tu.buffer<40x20xi8>, %b: !tu.buffer<20x40xi8>, %c: !tu.buffer<40x40xi32>)
// TU:     tu.pre {{.*}} comment "a tile of B stays"
// TU:     tu.mm {{.*}} comment "rows of A stream"
// TU:     tu.st %c{{.*}} comment "store the block"
func.func @main(%a: tensor<40x20xi8>, %b: tensor<20x40xi8>) -> tensor<40x40xi32> {
  %c = sparse.sddmm %a, %b, #sparse.weight<40x40xi8, [(0, 1, 1), (15, 15, 1), (16, 15, 1), (16, 16, 1), (39, 39, 1)]> unit <16, 16, 16> : tensor<40x20xi8>, tensor<20x40xi8> -> tensor<40x40xi32> {
    sparse.cover {
      [0:40, 0:40] += k[0:20]
    }
  }
  func.return %c : tensor<40x40xi32>
}
