const a = { b: 1, c: 2 };
function f(x) {
  return x + 1;
}
