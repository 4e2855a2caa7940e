"""Gradients as textbooks have them: the expression, its symbols, what it is derived in, and the closed form."""

SQUARE = ["X=nxn", "A=nxn", "B=nxn", "C=nxn", "a=n", "b=n", "c=n"]
VECTORS = ["x=n", "s=m", "A=nxm", "W=nxn,symmetric", "a=n", "t=n"]
TALL = ["X=nxm", "A=nxn", "S=nxn,symmetric", "B=nxn,symmetric", "D=mxm"]
DATA = ["X=nxd", "w=d", "y=n", "lam=1", "W=dxk", "Y=nxk,sums_to_one", "r=n"]
NORMAL = [
    "x=n",
    "mu=n",
    "Sigma=nxn,symmetric",
    "P=nxn,symmetric",
    "S=nxn,symmetric",
    "Psi=nxn,symmetric",
    "W=nxk",
    "X=mxn",
]
FACTORS = ["X=nxd", "U=nxk", "V=dxk", "W=dxk"]

TEXTBOOK = [
    # Matrix Cookbook 2.1: determinants
    ("det(X)", SQUARE, "X", "det(X)*inv(X).T"),
    ("det(A@X@B)", SQUARE, "X", "det(A@X@B)*inv(X).T"),
    ("det(X.T@S@X)", TALL, "X", "2*det(X.T@S@X)*S@X@inv(X.T@S@X)"),
    ("logdet(X)", SQUARE, "X", "inv(X).T"),
    ("logdet(X.T@X)", TALL, "X", "2*X@inv(X.T@X)"),
    ("logdet(X + A)", SQUARE, "X", "inv(X + A).T"),
    ("det(X)**3", SQUARE, "X", "3*det(X)**3*inv(X).T"),
    # 2.2: inverses
    ("a.T@inv(X)@b", SQUARE, "X", "-inv(X).T@a@b.T@inv(X).T"),
    ("det(inv(X))", SQUARE, "X", "-det(inv(X))*inv(X).T"),
    ("tr(A@inv(X)@B)", SQUARE, "X", "-(inv(X)@B@A@inv(X)).T"),
    ("tr(inv(X + A))", SQUARE, "X", "-(inv(X + A)@inv(X + A)).T"),
    # 2.4: vectors, matrices and scalars
    ("a.T@x", VECTORS, "x", "a"),
    ("a.T@X@b", SQUARE, "X", "a@b.T"),
    ("a.T@X.T@b", SQUARE, "X", "b@a.T"),
    ("a.T@X@a", SQUARE, "X", "a@a.T"),
    ("sum(X)**2", TALL, "X", "2*sum(X)*ones(n, m)"),
    ("b.T@X.T@X@c", SQUARE, "X", "X@(b@c.T + c@b.T)"),
    ("(B@a + b).T@C@(A@a + c)", SQUARE, "a", "B.T@C@(A@a + c) + A.T@C.T@(B@a + b)"),
    ("a.T@B@a", SQUARE, "a", "(B + B.T)@a"),
    ("b.T@X.T@A@X@c", SQUARE, "X", "A.T@X@b@c.T + A@X@c@b.T"),
    ("(X@b + c).T@A@(X@b + c)", SQUARE, "X", "(A + A.T)@(X@b + c)@b.T"),
    ("(x - t).T@W@(x - t)", VECTORS, "x", "2*W@(x - t)"),
    ("(x - t).T@W@(x - t)", VECTORS, "t", "-2*W@(x - t)"),
    ("(x - A@s).T@W@(x - A@s)", VECTORS, "s", "-2*A.T@W@(x - A@s)"),
    ("(x - A@s).T@W@(x - A@s)", VECTORS, "x", "2*W@(x - A@s)"),
    ("(x - A@s).T@W@(x - A@s)", VECTORS, "A", "-2*W@(x - A@s)@s.T"),
    ("a.T@X@X@b", SQUARE, "X", "X.T@a@b.T + a@b.T@X.T"),
    ("a.T@X.T@X@b + c.T@X@b", SQUARE, "X", "X@(a@b.T + b@a.T) + c@b.T"),
    # 2.5: traces
    ("tr(X)", SQUARE, "X", "identity(n)"),
    ("tr(X@A)", SQUARE, "X", "A.T"),
    ("tr(A@X@B)", SQUARE, "X", "A.T@B.T"),
    ("tr(A@X.T@B)", SQUARE, "X", "B@A"),
    ("tr(X.T@A)", SQUARE, "X", "A"),
    ("tr(A@X.T)", SQUARE, "X", "A"),
    ("tr(X@X)", SQUARE, "X", "2*X.T"),
    ("tr(X@X@B)", SQUARE, "X", "(X@B + B@X).T"),
    ("tr(X.T@A@X)", TALL, "X", "A@X + A.T@X"),
    ("tr(X@D@X.T)", TALL, "X", "X@D.T + X@D"),
    ("tr(A@X@B@X)", SQUARE, "X", "A.T@X.T@B.T + B.T@X.T@A.T"),
    ("tr(X.T@X)", TALL, "X", "2*X"),
    ("tr(B.T@X.T@C@X@B)", SQUARE, "X", "C.T@X@B@B.T + C@X@B@B.T"),
    ("tr(X.T@A@X@D)", TALL, "X", "A@X@D + A.T@X@D.T"),
    ("tr(A@X@B@X.T@C)", SQUARE, "X", "A.T@C.T@X@B.T + C@A@X@B"),
    ("tr((A@X@B + C)@(A@X@B + C).T)", SQUARE, "X", "2*A.T@(A@X@B + C)@B.T"),
    ("tr(X@X@X)", SQUARE, "X", "3*(X@X).T"),
    ("tr(A@inv(X))", SQUARE, "X", "-(inv(X)@A@inv(X)).T"),
    ("tr(inv(X.T@S@X)@D)", TALL, "X", "-S@X@inv(X.T@S@X)@(D + D.T)@inv(X.T@S@X)"),
    (
        "tr(inv(X.T@S@X)@(X.T@B@X))",
        TALL,
        "X",
        "-2*S@X@inv(X.T@S@X)@X.T@B@X@inv(X.T@S@X) + 2*B@X@inv(X.T@S@X)",
    ),
    ("tr(diag(a)@A)", SQUARE, "a", "diagonal(A)"),
    # 2.6, 2.7: norms
    ("norm(x - t)", VECTORS, "x", "(x - t)/norm(x - t)"),
    ("norm(x)**2", VECTORS, "x", "2*x"),
    ("norm(X)**2", TALL, "X", "2*X"),
    ("norm(X)", TALL, "X", "X/norm(X)"),
    # regression
    ("norm(X@w - y)**2", DATA, "w", "2*X.T@(X@w - y)"),
    ("norm(X@w - y)**2 + lam*norm(w)**2", DATA, "w", "2*(X.T@(X@w - y) + lam*w)"),
    ("(y - X@w).T@diag(r)@(y - X@w)", DATA, "w", "-2*X.T@diag(r)@(y - X@w)"),
    ("sum(softplus(X@w)) - y.T@X@w", DATA, "w", "X.T@(sigmoid(X@w) - y)"),
    ("sum(exp(X@w)) - y.T@X@w", DATA, "w", "X.T@(exp(X@w) - y)"),
    ("-sum(Y*log_softmax(X@W))", DATA, "W", "X.T@(softmax(X@W) - Y)"),
    ("logsumexp(X@w)", DATA, "w", "X.T@softmax(X@w)"),
    # Gaussian likelihoods, PCA, factor analysis
    ("-logdet(Sigma)/2 - (x - mu).T@inv(Sigma)@(x - mu)/2", NORMAL, "mu", "inv(Sigma)@(x - mu)"),
    (
        "-logdet(Sigma)/2 - (x - mu).T@inv(Sigma)@(x - mu)/2",
        NORMAL,
        "Sigma",
        "0.5*(inv(Sigma)@(x - mu)@(x - mu).T@inv(Sigma) - inv(Sigma))",
    ),
    ("logdet(P) - (x - mu).T@P@(x - mu)", NORMAL, "P", "inv(P) - (x - mu)@(x - mu).T"),
    ("logdet(P) - tr(S@P)", NORMAL, "P", "inv(P) - S"),
    ("tr(W.T@S@W)", NORMAL, "W", "2*S@W"),
    (
        "logdet(W@W.T + Psi) + tr(inv(W@W.T + Psi)@S)",
        NORMAL,
        "W",
        "2*(inv(W@W.T + Psi) - inv(W@W.T + Psi)@S@inv(W@W.T + Psi))@W",
    ),
    ("norm(X - X@W@W.T)**2", FACTORS, "W", "-2*(X.T@(X - X@W@W.T) + (X - X@W@W.T).T@X)@W"),
    ("norm(X - U@V.T)**2", FACTORS, "U", "-2*(X - U@V.T)@V"),
    ("norm(X - U@V.T)**2", FACTORS, "V", "-2*(X - U@V.T).T@U"),
    # entries
    ("-x.T@log(x)", VECTORS, "x", "-(log(x) + 1)"),
    ("x.T@(log(x) - log(t))", VECTORS, "x", "log(x) - log(t) + 1"),
    ("sum(sqrt(x))", VECTORS, "x", "0.5/sqrt(x)"),
    ("sum(A*A)", SQUARE, "A", "2*A"),
    ("sum(A*X*X)", SQUARE, "X", "2*A*X"),
    ("sum(tanh(A@s))", VECTORS, "A", "(1 - tanh(A@s)**2)@s.T"),
    ("x.T@W@x/(x.T@x)", VECTORS, "x", "2*(W@x - x.T@W@x/(x.T@x)*x)/(x.T@x)"),
    ("a.T@x/norm(x)", VECTORS, "x", "a/norm(x) - a.T@x*x/norm(x)**3"),
]
"""Of The Matrix Cookbook (Petersen, Pedersen 2012), whose sections are named, and of statistics."""
