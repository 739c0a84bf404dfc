import pickle
def write_page(report, out):
    pickle.dump(report, open("/tmp/demodrv/report.pkl","wb"))
