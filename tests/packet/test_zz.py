import time, functools
from test_moving import *
from cdnctl.datapath import moving, program
from cdnctl.engine import engine as eng, reload as rel
def test_dbg(edge):
    edge.file.text = edge.file.text.replace("flows = 4096","flows = 100000").replace("snat_ports = [20000, 20999]","snat_ports = [1024, 65535]").replace("block_entries = 4096","block_entries = 10000")
    edge.file.write(); edge.reloaded()
    busy = [Session(edge,"www",port=30000+n).open() for n in range(1500)]
    depth=[0]
    def timed(cls,name):
        real=getattr(cls,name)
        @functools.wraps(real)
        def wrapped(*a,**k):
            t=time.time(); c=time.process_time(); depth[0]+=1
            try: return real(*a,**k)
            finally:
                depth[0]-=1; print("T", "  "*depth[0], name, a[1:2] if isinstance(a[1:2] and a[1],(str,int)) else "", "%.3f cpu %.3f"%(time.time()-t,time.process_time()-c))
        setattr(cls,name,wrapped)
    for n in ("fill","refresh","catch_up","_finish","_copy","_copy_slots","_copy_flows","_copy_ids","_tidy","_add_counts"): timed(moving.Move,n)
    timed(program.Program,"prepare"); timed(eng.Engine,"put_config"); timed(eng.Engine,"attach_all"); timed(eng.Engine,"use"); timed(rel.Reloading,"_apply"); timed(rel.Reloading,"_settle"); timed(eng.Engine,"steer")
    from cdnctl.engine.blocks import Blocks; timed(Blocks,"load")
    for size in ("200000","100000"):
        edge.file.text = edge.file.text.replace("flows = 100000" if size=="200000" else "flows = 200000","flows = "+size); edge.file.write()
        t=time.time(); edge.reloaded(); print("T reload", time.time()-t)
    assert 0
