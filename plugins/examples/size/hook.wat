;; Refuses items whose payload is larger than 4 KiB.
;;
;; No toolchain is needed: the server takes this text as it is. The function has the canonical ABI's shape of
;;   on-enqueue: func(ctx: context, items: list<item>) -> list<result<enqueue-verdict, string>>
;; An item takes 72 bytes (`payload-len` at 68), a result 80 bytes (0: ok; 8: the verdict's number; 16: what the verdict carries).
(module
  (memory (export "memory") 1)
  (global $free (mut i32) (i32.const 1024))
  (data (i32.const 16) "too-large")
  (data (i32.const 32) "the payload is larger than 4 KiB")

  (func $on-enqueue (export "mqueue:hooks/enqueue@0.1.0#on-enqueue")
    (param $namespace i32) (param $namespace-len i32) (param $topic i32) (param $topic-len i32) (param $now i64)
    (param $principal i32) (param $principal-len i32) (param $scopes i32) (param $scopes-len i32)
    (param $items i32) (param $count i32) (result i32)
    (local $results i32) (local $result i32) (local $left i32)
    (local.set $results (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.mul (local.get $count) (i32.const 80))))
    (local.set $result (local.get $results))
    (local.set $left (local.get $count))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $left)))
        (i32.store8 (local.get $result) (i32.const 0))
        (if (i32.gt_u (i32.load offset=68 (local.get $items)) (i32.const 4096))
          (then
            (i32.store8 offset=8 (local.get $result) (i32.const 5))        ;; reject(reason)
            (i32.store offset=16 (local.get $result) (i32.const 16))       ;; the code and its length
            (i32.store offset=20 (local.get $result) (i32.const 9))
            (i32.store offset=24 (local.get $result) (i32.const 32))       ;; the message and its length
            (i32.store offset=28 (local.get $result) (i32.const 32)))
          (else
            (i32.store8 offset=8 (local.get $result) (i32.const 0))))      ;; keep
        (local.set $items (i32.add (local.get $items) (i32.const 72)))
        (local.set $result (i32.add (local.get $result) (i32.const 80)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $next)))
    ;; A list is its address and its length.
    (i32.store (i32.const 0) (local.get $results))
    (i32.store (i32.const 4) (local.get $count))
    (i32.const 0))

  ;; Memory for the arguments and the results: taken from the top, and all of it free again after the call.
  (func $realloc (export "cabi_realloc")
    (param $old i32) (param $old-len i32) (param $align i32) (param $len i32) (result i32)
    (local $at i32)
    (local.set $at
      (i32.and (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
               (i32.sub (i32.const 0) (local.get $align))))
    (global.set $free (i32.add (local.get $at) (local.get $len)))
    (block $fits
      (loop $grow
        (br_if $fits (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $grow (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))
        (unreachable)))
    (local.get $at))

  (func (export "cabi_post_mqueue:hooks/enqueue@0.1.0#on-enqueue") (param i32)
    (global.set $free (i32.const 1024))))
